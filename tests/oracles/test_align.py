"""ALIGN here equals that of transformers."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
import torch
import transformers

from mmjax.pretrained import align, preprocess
from tests.oracles import harness

CONFIGS = {
  'odd': (
    {'hidden_size': 15, 'intermediate_size': 22, 'num_hidden_layers': 2,
     'num_attention_heads': 3, 'max_position_embeddings': 17,
     'vocab_size': 61},
    {'width_coefficient': 0.25, 'depth_coefficient': 1.0,
     'in_channels': [32, 16, 24], 'out_channels': [16, 24, 40],
     'kernel_sizes': [3, 5, 3], 'strides': [1, 2, 2],
     'num_block_repeats': [1, 2, 1], 'expand_ratios': [1, 6, 4],
     'depthwise_padding': [1]},
    16, (37, 30),
  ),
  'relu': (
    {'hidden_size': 20, 'intermediate_size': 12, 'num_hidden_layers': 1,
     'num_attention_heads': 1, 'max_position_embeddings': 14,
     'vocab_size': 67, 'hidden_act': 'relu', 'layer_norm_eps': 1e-3},
    {'width_coefficient': 0.5, 'depth_coefficient': 1.4, 'depth_divisor': 4,
     'in_channels': [32, 12], 'out_channels': [12, 20],
     'kernel_sizes': [5, 3], 'strides': [2, 1], 'num_block_repeats': [1, 1],
     'expand_ratios': [1, 3], 'squeeze_expansion_ratio': 0.1,
     'hidden_act': 'relu', 'batch_norm_eps': 1e-5},
    12, (20, 27),
  ),
  'gelu': (
    {'hidden_size': 14, 'intermediate_size': 30, 'num_hidden_layers': 3,
     'num_attention_heads': 7, 'max_position_embeddings': 20,
     'vocab_size': 63, 'type_vocab_size': 3, 'hidden_act': 'gelu_new'},
    {'width_coefficient': 1.0, 'depth_coefficient': 0.5, 'depth_divisor': 3,
     'in_channels': [32, 6, 9], 'out_channels': [6, 9, 15],
     'kernel_sizes': [3, 5, 5], 'strides': [2, 2, 1],
     'num_block_repeats': [1, 2, 3], 'expand_ratios': [2, 1, 3],
     'depthwise_padding': [0, 1], 'hidden_act': 'gelu_new'},
    15, (33, 33),
  ),
}  # fmt: skip
LENGTHS = np.asarray([13, 7, 4])


def original(name):
  torch.manual_seed(0)
  text, vision, width, _ = CONFIGS[name]
  config = transformers.AlignConfig(
    text_config=text, vision_config=vision, projection_dim=width
  )
  model = harness.randomise(transformers.AlignModel(config))
  with torch.no_grad():
    model.temperature.fill_(0.07)
    for key, buffer in model.named_buffers():
      if key.endswith('running_mean'):
        buffer.normal_(0, 0.3)
      elif key.endswith('running_var'):
        buffer.uniform_(0.1, 1.0)
  return model


@pytest.fixture(scope='module', params=CONFIGS)
def case(request, tmp_path_factory):
  model = original(request.param)
  folder = tmp_path_factory.mktemp(request.param)
  return request.param, model, harness.load_saved(model, folder)


def inputs(name):
  """What each of the two reads; the texts have padding."""
  height, width = CONFIGS[name][3]
  rng = np.random.default_rng(0)
  images = rng.normal(size=(3, height, width, 3)).astype(np.float32)
  mask = np.arange(LENGTHS.max())[None] < LENGTHS[:, None]
  ids = np.where(mask, rng.integers(3, 61, mask.shape), 0)
  theirs = {
    'pixel_values': torch.tensor(images).permute(0, 3, 1, 2),
    'input_ids': torch.tensor(ids),
    'attention_mask': torch.tensor(mask).long(),
  }
  ours = {
    'image': jnp.asarray(images),
    'text': jnp.asarray(ids),
    'text_mask': jnp.asarray(mask),
  }
  return theirs, ours


def logits(out):
  return out['logit_scale'] * out['image_embedding'] @ out['text_embedding'].T


def test_outputs_agree(case):
  name, model, loaded = case
  theirs, ours = inputs(name)
  with torch.no_grad():
    want = model(**theirs)
  out = jax.jit(
    lambda params: loaded.module.apply({'params': params}, ours, train=False)
  )(loaded.params)
  assert want.logits_per_image.std() > 0.1
  harness.check_close(out['image_embedding'], want.image_embeds)
  harness.check_close(out['text_embedding'], want.text_embeds)
  harness.check_close(logits(out), want.logits_per_image)


def test_gradients_agree(case):
  name, model, loaded = case
  theirs, ours = inputs(name)

  def loss(params):
    out = loaded.module.apply({'params': params}, ours, train=False)
    return jnp.mean(logits(out) ** 2)

  def their_loss(model):
    return (model(**theirs).logits_per_image ** 2).mean()

  harness.check_gradients(model, loaded, their_loss, loss)


def test_what_is_saved_loads_there(case, tmp_path):
  _, model, loaded = case
  harness.check_saved(model, loaded, tmp_path)


SMALL = {
  'size': {'height': 34, 'width': 34},
  'crop_size': {'height': 29, 'width': 29},
}


@pytest.mark.parametrize(
  'settings',
  [
    # As published with ALIGN.
    {
      'do_center_crop': True,
      'do_normalize': False,
      'include_top': False,
      'rescale_factor': 2 / 255,
      'rescale_offset': True,
      'resample': 2,
      **SMALL,
    },
    {'image_std': [0.2, 0.3, 0.4], **SMALL},
    {'do_normalize': False, 'rescale_offset': True, **SMALL},
  ],
)
def test_images_are_prepared_as_there(settings, tmp_path):
  processor = transformers.EfficientNetImageProcessorPil(**settings)
  processor.save_pretrained(tmp_path)
  saved = json.loads((tmp_path / 'preprocessor_config.json').read_text())
  rng = np.random.default_rng(0)
  for given in (saved, settings):
    prepare = preprocess.ImagePreprocessor.from_config(
      given, align.Model.image_defaults
    )
    for shape in ((40, 31, 3), (13, 57, 3)):
      image = PIL.Image.fromarray(rng.integers(0, 256, shape, np.uint8))
      want = processor(image, return_tensors='np')['pixel_values'][0]
      np.testing.assert_allclose(
        prepare(image), want.transpose(1, 2, 0), rtol=1e-6, atol=1e-6
      )
