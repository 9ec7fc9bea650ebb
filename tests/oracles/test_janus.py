"""Janus draws the images here that it draws in transformers."""

import json

import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
import torch
import transformers

from mmjax.pretrained import janus
from tests.oracles import harness
from tests.oracles import test_vision_language as others
from tests.oracles import vision_language_batches as batches
from tests.oracles import vision_language_configs as models

BEGIN = 2


@pytest.fixture(
  scope='module', params=[name for name in models.CONFIGS if 'janus' in name]
)
def pair(request, tmp_path_factory):
  model = others.original(request.param)
  return model, harness.load_saved(model, tmp_path_factory.mktemp('janus'))


def draw_batch(left):
  """Prompts of three lengths, and tokens of an image after each."""
  rng = np.random.default_rng(0)
  rows = [[1, *batches.words(rng, number), BEGIN] for number in (5, 2, 7)]
  ids, mask = batches.pad_rows(rows, left)
  batch = {'text': jnp.asarray(ids), 'text_mask': jnp.asarray(mask)}
  return rows, batch, rng.integers(0, 13, (3, 2, 3))


def find_logits(model, row, ids):
  """Logits [N, V] of the tokens of an image, one prompt alone."""
  words = model.get_input_embeddings()(torch.tensor([row]))
  tokens = torch.tensor(ids.reshape(1, -1)[:, :-1])
  images = model.prepare_embeddings_for_image_generation(tokens)
  x = model.model.language_model(inputs_embeds=torch.cat([words, images], 1))
  features = x.last_hidden_state[0, len(row) - 1 :]
  return model.model.generation_head(features)


@pytest.mark.parametrize('left', [False, True])
def test_logits_of_images_agree(pair, left):
  model, loaded = pair
  rows, batch, ids = draw_batch(left)
  got = loaded.jit_method('predict_written_tokens')(
    loaded.params, jnp.asarray(ids), batch
  )
  with torch.no_grad():
    want = np.stack(
      [find_logits(model, *both) for both in zip(rows, ids, strict=True)]
    )
  assert want.std(axis=1).min() > 0.01
  harness.check_close(np.asarray(got).reshape(want.shape), want)


def test_gradients_of_images_agree(pair):
  model, loaded = pair
  rows, batch, ids = draw_batch(left=False)

  def loss(params):
    logits = loaded.module.apply(
      {'params': params},
      jnp.asarray(ids),
      batch,
      method='predict_written_tokens',
    )
    return jnp.mean(jnp.square(logits))

  def their_loss(model):
    logits = [find_logits(model, *both) for both in zip(rows, ids, strict=True)]
    return (torch.stack(logits) ** 2).mean()

  harness.check_gradients(model, loaded, their_loss, loss)


# With 1, transformers 5.24 fails.
@pytest.mark.parametrize('guidance', [1.5, 3.0])
def test_greedy_images_agree(pair, guidance):
  model, loaded = pair
  _, left, _ = draw_batch(left=True)
  side = janus._find_side(loaded.vision_config())
  model.generation_config.generation_kwargs = {'boi_token_id': BEGIN}
  want = model.generate(
    torch.tensor(np.asarray(left['text'])),
    attention_mask=torch.tensor(np.asarray(left['text_mask'])).long(),
    generation_mode='image',
    do_sample=False,
    guidance_scale=guidance,
    pad_token_id=models.PAD,
    bos_token_id=1,
  ).numpy()
  for batch in (left, draw_batch(left=False)[1]):
    got = loaded.jit_method(
      'write_tokens',
      number=side**2,
      guidance=guidance,
      temperature=0.0,
      pad_id=models.PAD,
    )(loaded.params, batch)
    np.testing.assert_array_equal(got, want)
  assert len(np.unique(want)) > 3


@pytest.mark.parametrize('size', [(50, 31), (31, 50), (24, 24), (5, 200)])
def test_images_are_padded_alike(size, tmp_path):
  processor = transformers.JanusImageProcessorPil(
    size={'height': 24, 'width': 24}, min_size=3
  )
  processor.save_pretrained(tmp_path)
  config = json.loads((tmp_path / 'preprocessor_config.json').read_text())
  pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
  image = PIL.Image.fromarray(pixels)
  want = processor(image, return_tensors='np')['pixel_values'][0]
  got = janus.Model.make_preprocessor(config)(image)
  harness.close(got, want.transpose(1, 2, 0), atol=1e-6)
