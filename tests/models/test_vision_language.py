"""A language model with pictures among its words."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import decoders, encoders, models
from mmjax import nn as mnn
from mmjax.ops import packing
from mmjax.pretrained import patches, preprocess

SEEN = 9  # The placeholder; there is no such word.
TEXT = jnp.asarray([[1, SEEN, SEEN, 5, SEEN, SEEN], [1, 3, SEEN, SEEN, 0, 0]])
MASK = jnp.asarray([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]], bool)
IMAGES = np.random.default_rng(0).normal(size=(2, 2, 2, 4, 3))
BATCH = {
  'text': TEXT,
  'text_mask': MASK,
  'image': jnp.asarray(IMAGES, jnp.float32),
}


@pytest.fixture(scope='module')
def made(draw):
  model = models.InterleavedVisionLanguage(
    vision=encoders.ViT(2, 8, 1, 2, 7, position_grid=(1, 2), class_token=True),
    decoder=decoders.TextDecoder(
      9,
      12,
      2,
      2,
      7,
      20,
      cross_attention=False,
      positions='none',
      block={'rope_theta': 1e4},
    ),
    projector=mnn.Mlp(12, 5),
    placeholders=(SEEN,),
    skipped=1,
  )
  return model, draw(model, BATCH, train=False)


def write(model, variables, batch, max_new_tokens=4):
  generate = functools.partial(
    model.apply,
    text_kind='continue',
    method='generate',
    max_new_tokens=max_new_tokens,
    eos_id=(),
  )
  return jax.jit(generate)(variables, batch)


def test_pictures_stand_in_their_places(made):
  model, variables = made
  vectors = model.apply(variables, BATCH, method='embed_words')
  seen = model.apply(variables, BATCH, method='encode_images').values
  words = variables['params']['decoder']['words']['table']['embedding']
  np.testing.assert_array_equal(vectors[0, 1:3], seen[0, :2])
  np.testing.assert_array_equal(vectors[0, 4:], seen[0, 2:])
  np.testing.assert_array_equal(vectors[1, 2:4], seen[1, :2])
  np.testing.assert_array_equal(vectors[0, 3], words[5])


def test_a_picture_that_a_text_lacks_changes_nothing(made):
  model, variables = made
  apply = jax.jit(functools.partial(model.apply, train=False))
  before = apply(variables, BATCH)['text_logits']
  image = BATCH['image'].at[1, 1].set(jnp.nan)
  after = apply(variables, {**BATCH, 'image': image})['text_logits']
  np.testing.assert_array_equal(after[1, :4], before[1, :4])


def test_greedy_writing_equals_teacher_forcing(made):
  model, variables = made
  written = write(model, variables, BATCH)
  for row, length in enumerate((6, 4)):
    whole = jnp.concatenate([TEXT[row, :length], written.tokens[row]])[None]
    batch = {'text': whole, 'image': BATCH['image'][row : row + 1]}
    logits = model.apply(variables, batch, train=False)['text_logits']
    want = logits[0, length - 1 : -1].argmax(-1)
    np.testing.assert_array_equal(written.tokens[row], want)


def test_a_grid_that_comes_first_has_rows_and_columns_for_the_words(draw):
  rope = {'rope_theta': 1e4, 'rope': {'sections': (1, 1, 1)}}
  reads = models.InterleavedVisionLanguage(
    vision=encoders.PackedViT(8, 1, 2, 7, out_width=12, patch_size=2),
    decoder=decoders.TextDecoder(
      9, 12, 1, 2, 7, 20, cross_attention=False, positions='none', block=rope
    ),
    placeholders=(SEEN,),
  )
  pixels = np.random.default_rng(0).integers(0, 9, (2, 4, 12, 3), np.uint8)
  cut = patches.PatchPreprocessor(
    preprocess.ImagePreprocessor(rescale_factor=1), patch_size=2, resize=False
  )
  rows, grids = zip(*(cut([image]) for image in pixels), strict=True)
  twice = lambda array: jnp.stack([jnp.asarray(array)] * 2)
  seen = {k: twice(v) for k, v in packing.patch_layout(grids[:1], 2).items()}
  text = jnp.asarray([[1, 4, 5, 6], [1, 7, 8, 2]])
  ids = [SEEN] * 3 + [0] * 4
  batch = {
    'text': jnp.concatenate([jnp.full((2, 3), SEEN), text], axis=1),
    'patches': {'patches': jnp.asarray(np.stack(rows)), **seen},
    'text_positions': twice(packing.rotary_positions(ids, grids[:1], [SEEN])),
  }
  variables = draw(reads, batch, train=False)
  want = reads.apply(variables, batch, train=False)['text_logits'][:, 3:-1]
  writes = models.ImageFirstVisionLanguage.from_interleaved(reads)
  plain = {
    'image': jnp.asarray(pixels, jnp.float32),
    # One that isn't there takes no positions.
    'image_mask': jnp.asarray([True, False]),
    'text': text,
    'text_mask': jnp.ones((2, 4), bool),
  }
  got = writes.apply(variables, plain, train=False)['caption_logits']
  # Products of other shapes, in float32, here and below.
  np.testing.assert_allclose(got[0], want[0], rtol=1e-4, atol=1e-5)
  language = models.LanguageModel(reads.decoder)
  decoder = {'params': {'decoder': variables['params']['decoder']}}
  want = language.apply(decoder, {'text': text}, train=False)['text_logits']
  np.testing.assert_allclose(got[1], want[1, :-1], rtol=1e-4, atol=1e-5)
  # What is written continues in the same way.
  write = functools.partial(writes.apply, method='generate', eos_id=())
  done = write(variables, plain, text_kind='caption', max_new_tokens=3).tokens
  plain['text'] = jnp.concatenate([text[:, :1], done], axis=1)
  got = writes.apply(variables, plain, train=False)['caption_logits']
  np.testing.assert_array_equal(done, got.argmax(-1))


@pytest.fixture(scope='module')
def two(draw):
  """A model whose encoder reads what is asked, before its decoder writes."""
  block = {'relative': {'buckets': 8, 'max_distance': 16}}
  model = models.ImageFirstVisionLanguage(
    vision=encoders.ViT(2, 12, 1, 2, 7, position_grid=(1, 2)),
    encoder=encoders.Transformer(9, 12, 1, 2, 7, 20, positions='none', **block),
    decoder=decoders.TextDecoder(9, 12, 1, 2, 7, 20, positions='none', **block),
    bos_id=0,
    eos_id=1,
  )
  batch = {
    'image': BATCH['image'][:, 0],
    'image_mask': jnp.asarray([True, False]),
    'text': jnp.asarray([[0, 4, 5, 6], [0, 7, 8, 2]]),
    'text_mask': jnp.ones((2, 4), bool),
    'question': jnp.asarray([[[5, 1], [6, 1]], [[7, 3], [8, 1]]]),
    'question_mask': jnp.ones((2, 2, 2), bool),
    'answer': jnp.asarray([[[0, 2, 3], [0, 3, 1]], [[0, 4, 1], [0, 5, 3]]]),
    'answer_mask': jnp.ones((2, 2, 3), bool),
  }
  return model, draw(model, batch, train=False), batch


def test_an_encoder_reads_the_picture_and_the_question(two):
  model, variables, batch = two
  apply = jax.jit(functools.partial(model.apply, train=False))
  out = apply(variables, batch)
  assert out['caption_logits'].shape == (2, 3, 9)
  assert out['answer_token_logits'].shape == (2, 2, 2, 9)
  # As where placeholders stand for the picture and the text is behind them.
  reads = models.InterleavedVisionLanguage(
    vision=model.vision,
    encoder=model.encoder,
    decoder=model.decoder,
    placeholders=(SEEN,),
  )
  picture = [SEEN] * 2
  for text, target, want in (
    ([1], batch['text'][0], out['caption_logits'][0]),
    ([6, 1], batch['answer'][0, 1], out['answer_token_logits'][0, 1]),
  ):
    given = {
      'text': jnp.asarray([picture + text]),
      'image': batch['image'][:1, None],
      'answer': target[None],
    }
    got = reads.apply(variables, given, train=False)['answer_token_logits']
    # Products of other shapes, in float32.
    np.testing.assert_allclose(got[0], want, rtol=1e-4, atol=1e-5)
  # What isn't there changes nothing, and everything else matters.
  spoilt = {**batch, 'image': batch['image'].at[1].set(jnp.nan)}
  again = apply(variables, spoilt)
  jax.tree.map(np.testing.assert_array_equal, again, out)
  total = lambda variables: sum(
    (leaf**2).sum()
    for leaf in model.apply(variables, batch, train=False).values()
  )
  for leaf in jax.tree.leaves(jax.jit(jax.grad(total))(variables)):
    assert np.any(leaf != 0)


@pytest.mark.parametrize('task', ['caption', 'answer'])
def test_what_follows_an_encoder_equals_teacher_forcing(two, task):
  model, variables, batch = two
  write = functools.partial(model.apply, method='generate', eos_id=())
  done = write(variables, batch, text_kind=task, max_new_tokens=3).tokens
  texts = done.reshape(2, -1, 3) if task == 'answer' else done
  key = {'caption': 'text', 'answer': 'answer'}[task]
  start = jnp.zeros((*texts.shape[:-1], 1), jnp.int32)
  whole = jnp.concatenate([start, texts], axis=-1)
  batch = {**batch, key: whole, f'{key}_mask': jnp.ones(whole.shape, bool)}
  out = model.apply(variables, batch, train=False)
  name = {'caption': 'caption_logits', 'answer': 'answer_token_logits'}[task]
  np.testing.assert_array_equal(texts, out[name].argmax(-1))


def test_an_encoder_fits_its_decoder(two):
  model, _, batch = two
  for wrong, message in (
    ({'decoder': model.decoder.clone(width=16)}, 'encoder.width is 12, but'),
    (
      {'decoder': model.decoder.clone(cross_attention=False)},
      'cross_attention is False, but .* of the encoder; set it to True',
    ),
    (
      {'vision': model.vision.clone(width=8)},
      'vectors of width 8, but words',
    ),
  ):
    with pytest.raises(ValueError, match=message):
      jax.eval_shape(
        lambda wrong=wrong: model.clone(**wrong).init(
          jax.random.key(0), batch, train=False
        )
      )


def test_an_image_takes_positions_too():
  model = models.ImageFirstVisionLanguage(
    vision=encoders.ViT(2, 12, 1, 2, 7, position_grid=(1, 2)),
    decoder=decoders.TextDecoder(9, 12, 1, 2, 7, 5, cross_attention=False),
  )
  batch = {'image': BATCH['image'][:, 0]}
  with pytest.raises(ValueError, match='4 tokens after 3 takes 6 positions'):
    jax.eval_shape(
      lambda: model.init(
        jax.random.key(0),
        batch,
        text_kind='caption',
        max_new_tokens=4,
        method='generate',
      )
    )


def test_a_text_alone_is_read_too(made):
  model, variables = made
  text = jnp.asarray([[1, 3, 5]])
  alone = model.apply(variables, {'text': text}, train=False)['text_logits']
  language = models.LanguageModel(model.decoder)
  decoder = {'params': {'decoder': variables['params']['decoder']}}
  want = language.apply(decoder, {'text': text}, train=False)['text_logits']
  np.testing.assert_array_equal(alone, want)


def test_a_prompt_may_be_a_prefix(made):
  model, variables = made
  prefix = model.clone(prefix_lm=True)
  got = write(prefix, variables, BATCH, max_new_tokens=1)
  batch = {**BATCH, 'prefix_mask': MASK}
  logits = model.apply(variables, batch, train=False)['text_logits']
  last = logits[jnp.arange(2), jnp.asarray([5, 3])]
  score = jax.nn.log_softmax(last).max(-1)
  # Products of other shapes, in float32.
  np.testing.assert_allclose(got.score, score, rtol=1e-4)
  causal = write(model, variables, BATCH, max_new_tokens=1)
  assert not np.allclose(got.score, causal.score)


def test_patches_are_read_by_a_packed_encoder(draw, made):
  model, _ = made
  packed = models.InterleavedVisionLanguage(
    vision=encoders.PackedViT(8, 1, 2, 7, out_width=12),
    decoder=model.decoder,
    placeholders=(SEEN,),
  )
  row = {
    'patches': jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 6))),
    'positions': jnp.zeros((2, 16, 2), jnp.int32),
    'segments': jnp.asarray([[1] * 16, [1] * 8 + [0] * 8]),
  }
  batch = {'text': TEXT, 'text_mask': MASK, 'patches': row}
  variables = draw(packed, batch, train=False)
  both = write(packed, variables, batch)
  alone = jax.tree.map(lambda leaf: leaf[1:], batch)
  np.testing.assert_array_equal(
    both.tokens[1:], write(packed, variables, alone).tokens
  )
