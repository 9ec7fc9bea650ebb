"""SigLIP 2 for any aspect ratio here equals that of transformers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
import torch
import transformers

from mmjax import encoders
from mmjax.pretrained import siglip2
from tests.oracles import harness

TEXT = {'vocab_size': 99, 'bos_token_id': 97, 'eos_token_id': 98}
CONFIGS = {
  'odd': (
    {'hidden_size': 30, 'intermediate_size': 44, 'num_hidden_layers': 2,
     'num_attention_heads': 3, 'max_position_embeddings': 7, **TEXT},
    {'hidden_size': 30, 'intermediate_size': 50, 'num_hidden_layers': 3,
     'num_attention_heads': 5, 'patch_size': 3, 'num_patches': 16},
  ),
  'two_widths': (
    {'hidden_size': 12, 'intermediate_size': 64, 'num_hidden_layers': 1,
     'num_attention_heads': 1, 'max_position_embeddings': 16,
     'projection_size': 20, **TEXT},
    {'hidden_size': 20, 'intermediate_size': 18, 'num_hidden_layers': 1,
     'num_attention_heads': 4, 'patch_size': 4, 'num_patches': 9},
  ),
  'gelu': (
    {'hidden_size': 16, 'intermediate_size': 20, 'num_hidden_layers': 3,
     'num_attention_heads': 2, 'max_position_embeddings': 9,
     'hidden_act': 'gelu', 'layer_norm_eps': 1e-3, **TEXT},
    {'hidden_size': 16, 'intermediate_size': 48, 'num_hidden_layers': 2,
     'num_attention_heads': 2, 'patch_size': 2, 'num_patches': 25,
     'hidden_act': 'gelu', 'layer_norm_eps': 1e-4},
  ),
}  # fmt: skip
GRIDS = np.asarray([[3, 4], [6, 2], [2, 5]])


@pytest.fixture(scope='module', params=CONFIGS)
def pair(request, tmp_path_factory):
  torch.manual_seed(0)
  text, vision = CONFIGS[request.param]
  config = transformers.Siglip2Config(text_config=text, vision_config=vision)
  model = harness.randomise(transformers.Siglip2Model(config))
  folder = tmp_path_factory.mktemp(request.param)
  return model, harness.load_saved(model, folder)


def batch(config):
  """What each of the two reads; images have padding."""
  rng = np.random.default_rng(0)
  text, number = config.text_config, 13
  width = config.vision_config.patch_size**2 * 3
  values = rng.normal(size=(3, number, width)).astype(np.float32)
  mask = np.arange(number)[None] < GRIDS.prod(axis=1)[:, None]
  ids = rng.integers(0, 90, (3, text.max_position_embeddings))
  theirs = {
    'input_ids': torch.tensor(ids),
    'pixel_values': torch.tensor(values),
    'pixel_attention_mask': torch.tensor(mask).int(),
    'spatial_shapes': torch.tensor(GRIDS),
  }
  image = encoders.ImagePatches(values, mask, GRIDS.astype(np.int32))
  image = jax.tree.map(jnp.asarray, image)
  return theirs, {'image': image, 'text': jnp.asarray(ids)}


def logits_of(out):
  logits = out['logit_scale'] * out['image_embedding'] @ out['text_embedding'].T
  return logits + out['logit_bias']


def test_outputs_agree(pair):
  model, loaded = pair
  theirs, ours = batch(model.config)
  with torch.no_grad():
    want = model(**theirs)
  apply = jax.jit(functools.partial(loaded.module.apply, train=False))
  got = apply({'params': loaded.params}, ours)
  harness.check_close(got['image_embedding'], want.image_embeds.numpy())
  harness.check_close(got['text_embedding'], want.text_embeds.numpy())
  harness.check_close(logits_of(got), want.logits_per_image.numpy())


def test_gradients_agree(pair):
  model, loaded = pair
  theirs, ours = batch(model.config)

  def loss(params):
    out = loaded.module.apply({'params': params}, ours, train=False)
    return jnp.mean(logits_of(out) ** 2)

  def their_loss(model):
    return (model(**theirs).logits_per_image ** 2).mean()

  harness.check_gradients(model, loaded, their_loss, loss)


def test_what_is_saved_loads_there(pair, tmp_path):
  harness.check_saved(*pair, tmp_path)


@pytest.mark.parametrize('number', [16, 20])
def test_images_are_prepared_alike(number, tmp_path):
  processor = transformers.Siglip2ImageProcessorPil(
    patch_size=4, max_num_patches=number
  )
  processor.save_pretrained(tmp_path)
  name = 'preprocessor_config.json'
  files = {name: (tmp_path / name).read_bytes()}
  rng = np.random.default_rng(0)
  images = [
    PIL.Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8))
    for size in [(50, 31), (31, 50), (16, 16), (20, 90), (200, 3)]
  ]
  want = processor(images, return_tensors='np')
  got = siglip2.Model(None, None, {}, files).preprocess(images)
  np.testing.assert_array_equal(got.grid, want['spatial_shapes'])
  np.testing.assert_array_equal(got.mask, want['pixel_attention_mask'])
  harness.close(got.values, want['pixel_values'], atol=1e-6)
