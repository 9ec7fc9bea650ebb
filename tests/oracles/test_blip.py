"""BLIP here equals that of transformers."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
import torch
import transformers

from mmjax import pretrained
from mmjax.pretrained import blip
from tests.oracles import harness

BOS, SEP, PAD = 90, 91, 0
SPECIAL = {'bos_token_id': BOS, 'sep_token_id': SEP, 'pad_token_id': PAD}
SIZES = {
  'odd': (
    {'hidden_size': 24, 'intermediate_size': 40, 'num_hidden_layers': 2,
     'num_attention_heads': 3, 'max_position_embeddings': 33,
     'vocab_size': 97, **SPECIAL},
    {'hidden_size': 30, 'intermediate_size': 50, 'num_hidden_layers': 3,
     'num_attention_heads': 5, 'image_size': 21, 'patch_size': 7},
    {'image_text_hidden_size': 18},
  ),
  'one_head': (
    {'hidden_size': 16, 'intermediate_size': 20, 'num_hidden_layers': 3,
     'num_attention_heads': 1, 'max_position_embeddings': 40,
     'vocab_size': 95, 'hidden_act': 'gelu_new', 'layer_norm_eps': 1e-5,
     **SPECIAL},
    {'hidden_size': 16, 'intermediate_size': 12, 'num_hidden_layers': 1,
     'num_attention_heads': 4, 'image_size': 16, 'patch_size': 4,
     'hidden_act': 'gelu_new', 'layer_norm_eps': 1e-3},
    {'image_text_hidden_size': 5},
  ),
  'wide_text': (
    {'hidden_size': 40, 'intermediate_size': 24, 'num_hidden_layers': 1,
     'num_attention_heads': 8, 'max_position_embeddings': 30,
     'vocab_size': 92, 'hidden_act': 'relu', **SPECIAL},
    {'hidden_size': 12, 'intermediate_size': 28, 'num_hidden_layers': 2,
     'num_attention_heads': 2, 'image_size': 24, 'patch_size': 8},
    {'image_text_hidden_size': 32},
  ),
}  # fmt: skip
CLASSES = {
  'captions': transformers.BlipForConditionalGeneration,
  'answers': transformers.BlipForQuestionAnswering,
  'matches': transformers.BlipForImageTextRetrieval,
}
LENGTHS = (9, 5, 3)


def original(kind, size):
  torch.manual_seed(0)
  text, vision, more = SIZES[size]
  if kind == 'answers':  # There the decoder reads what the text encoder wrote.
    width, heads = text['hidden_size'], text['num_attention_heads']
    vision = {**vision, 'hidden_size': width, 'num_attention_heads': heads}
  config = transformers.BlipConfig(
    text_config=text, vision_config=vision, **more
  )
  model = harness.randomise(CLASSES[kind](config))
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      if 'word_embeddings' in name:  # Or all words were as likely.
        parameter.mul_(8.0)
      elif 'predictions.bias' in name:
        parameter[SEP] -= 9.0  # Long texts.
  return model


@pytest.fixture(
  scope='module', params=[(kind, size) for kind in CLASSES for size in SIZES]
)
def case(request, tmp_path_factory):
  kind, size = request.param
  model = original(kind, size)
  folder = tmp_path_factory.mktemp(f'{kind}_{size}')
  return kind, model, harness.load_saved(model, folder)


def texts(rows, seed=0):
  """Ids and masks of texts of different lengths."""
  rng = np.random.default_rng(seed)
  ids = rng.integers(3, 90, (rows, max(LENGTHS)))
  mask = np.arange(ids.shape[1])[None] < np.asarray(LENGTHS)[:rows, None]
  return np.where(mask, ids, PAD), mask


def inputs(kind, model):
  """What each of the two reads; the texts have padding."""
  side = model.config.vision_config.image_size
  rng = np.random.default_rng(0)
  images = rng.normal(size=(3, side, side, 3)).astype(np.float32)
  theirs = {'pixel_values': torch.tensor(images).permute(0, 3, 1, 2)}
  ours = {'image': jnp.asarray(images)}
  ids, mask = texts(3)
  their_ids, their_mask = torch.tensor(ids), torch.tensor(mask).long()
  theirs |= {'input_ids': their_ids, 'attention_mask': their_mask}
  name = 'question' if kind == 'answers' else 'text'
  ours |= {name: jnp.asarray(ids), f'{name}_mask': jnp.asarray(mask)}
  if kind == 'answers':
    ids, mask = texts(3, seed=1)
    theirs['decoder_input_ids'] = torch.tensor(ids)
    theirs['decoder_attention_mask'] = torch.tensor(mask).long()
    ours |= {'answer': jnp.asarray(ids), 'answer_mask': jnp.asarray(mask)}
  return theirs, ours


def their_outputs(kind, model, theirs):
  """What there is to compare, by our names."""
  if kind == 'captions':
    logits = model(**theirs).logits
    return {'caption_logits': logits[:, :-1]}
  if kind == 'answers':
    # One by one, as answers there look at their questions' padding.
    rows = [answer_logits(model, theirs, row) for row in range(3)]
    return {'answer_token_logits': torch.cat(rows)[:, :-1]}
  return {
    'match_logits': model(**theirs).itm_score,
    'similarity': model(**theirs, use_itm_head=False).itm_score,
  }


def answer_logits(model, theirs, row):
  """Logits of one answer, to a question without padding."""
  given = {name: value[row : row + 1] for name, value in theirs.items()}
  for name in ('input_ids', 'attention_mask'):
    given[name] = given[name][:, : LENGTHS[row]]
  caught = []
  hook = model.text_decoder.register_forward_hook(
    lambda _, __, out: caught.append(out.logits)
  )
  model(**given)
  hook.remove()
  return caught[0]


def our_outputs(kind, out):
  """The same of our model's outputs."""
  if kind != 'matches':
    return {name: out[name] for name in out if name.endswith('logits')}
  return {
    'match_logits': out['match_logits'],
    'similarity': out['image_embedding'] @ out['text_embedding'].T,
  }


def real(ours, name):
  """Where a comparison counts, 0 on padding, for both of the two."""
  part = {'caption_logits': 'text', 'answer_token_logits': 'answer'}.get(name)
  if part is None:
    return np.ones((), np.float32)
  return np.asarray(ours[f'{part}_mask'], np.float32)[:, :-1, None]


def test_outputs_agree(case):
  kind, model, loaded = case
  theirs, ours = inputs(kind, model)
  with torch.no_grad():
    want = their_outputs(kind, model, theirs)
  apply = jax.jit(functools.partial(loaded.module.apply, train=False))
  got = our_outputs(kind, apply({'params': loaded.params}, ours))
  assert got.keys() == want.keys()
  for name, value in want.items():
    kept = real(ours, name)
    harness.check_close(got[name] * kept, value.numpy() * kept, name)


def test_gradients_agree(case):
  kind, model, loaded = case
  theirs, ours = inputs(kind, model)

  def loss(params):
    out = loaded.module.apply({'params': params}, ours, train=False)
    out = our_outputs(kind, out)
    return sum(jnp.mean((x * real(ours, n)) ** 2) for n, x in out.items())

  def their_loss(model):
    out = their_outputs(kind, model, theirs)
    return sum(
      ((x * torch.tensor(real(ours, n))) ** 2).mean() for n, x in out.items()
    )

  harness.check_gradients(model, loaded, their_loss, loss)


def test_what_is_saved_loads_there(case, tmp_path):
  _, model, loaded = case
  harness.check_saved(model, loaded, tmp_path)


def written(model, prompt, **given):
  """The 20 tokens that transformers writes after a prompt, padded."""
  with torch.no_grad():
    tokens = model.generate(
      **given, max_new_tokens=20, min_new_tokens=0, do_sample=False
    )
  tokens = tokens[:, prompt:].numpy()
  return np.pad(tokens, ((0, 0), (0, 20 - tokens.shape[1])))


def varied(tokens):
  """Asserts that texts differ from each other, and their tokens too."""
  assert len(np.unique(tokens, axis=0)) == 3
  assert len(np.unique(tokens)) > 3


@pytest.mark.parametrize('size', SIZES)
def test_captions_are_written_alike(size, tmp_path):
  model = original('captions', size)
  loaded = harness.load_saved(model, tmp_path)
  theirs, ours = inputs('captions', model)
  pixels = theirs['pixel_values']
  generate = loaded.jit_method(
    'generate', text_kind='caption', max_new_tokens=20, eos_id=SEP, pad_id=PAD
  )
  alone = generate(loaded.params, {'image': ours['image']}).tokens
  varied(alone)
  want = written(model, 1, pixel_values=pixels)
  np.testing.assert_array_equal(alone, want)
  # Prompts of different lengths, together here, one by one there, where
  # padding changes what is written. The last token there is left out.
  ids, mask = texts(3)
  prompt = jnp.asarray(ids).at[:, 0].set(BOS)
  batch = {
    'image': ours['image'],
    'decoder_prompt': prompt,
    'decoder_prompt_mask': jnp.asarray(mask),
  }
  got = generate(loaded.params, batch).tokens
  for row, length in enumerate(LENGTHS):
    given = torch.tensor(ids[row : row + 1, :length])
    given = torch.nn.functional.pad(given, (0, 1), value=SEP)
    want = written(
      model,
      length,
      pixel_values=pixels[row : row + 1],
      input_ids=given,
      attention_mask=torch.ones_like(given),
    )
    np.testing.assert_array_equal(got[row : row + 1], want)


@pytest.mark.parametrize('size', SIZES)
def test_answers_are_written_alike(size, tmp_path):
  model = original('answers', size)
  loaded = harness.load_saved(model, tmp_path)
  theirs, ours = inputs('answers', model)
  generate = loaded.jit_method(
    'generate', text_kind='answer', max_new_tokens=20, eos_id=SEP, pad_id=PAD
  )
  asked = {name: ours[name] for name in ('image', 'question', 'question_mask')}
  got = generate(loaded.params, asked).tokens
  varied(got)
  # One by one there, where an answer looks at its question's padding.
  for row, length in enumerate(LENGTHS):
    ids = theirs['input_ids'][row : row + 1, :length]
    want = written(
      model,
      1,
      pixel_values=theirs['pixel_values'][row : row + 1],
      input_ids=ids,
      attention_mask=torch.ones_like(ids),
    )
    np.testing.assert_array_equal(got[row : row + 1], want)


@pytest.mark.parametrize('size', [(50, 31), (31, 50), (16, 16), (20, 90)])
def test_images_are_prepared_alike(size, tmp_path):
  processor = transformers.BlipImageProcessorPil(
    size={'height': 24, 'width': 24}
  )
  processor.save_pretrained(tmp_path)
  config = json.loads((tmp_path / 'preprocessor_config.json').read_text())
  pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
  image = PIL.Image.fromarray(pixels)
  want = processor(image, return_tensors='np')['pixel_values'][0]
  ours = pretrained.preprocess.ImagePreprocessor.from_config(
    config, blip.Model.image_defaults
  )
  harness.close(ours(image), want.transpose(1, 2, 0), atol=1e-6)
