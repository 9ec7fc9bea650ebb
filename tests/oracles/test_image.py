"""Image encoders and classifiers here equal those of transformers."""

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
from mmjax.pretrained import dinov2, resnet, vit
from tests.oracles import harness

# The class, its config and further arguments of it, and sizes of images.
CONFIGS = {
  'vit_pooler': (
    transformers.ViTModel,
    {'hidden_size': 24, 'intermediate_size': 40, 'num_hidden_layers': 2,
     'num_attention_heads': 3, 'image_size': 21, 'patch_size': 7},
    {},
    [(21, 21)],
  ),
  'vit_plain': (
    transformers.ViTModel,
    {'hidden_size': 30, 'intermediate_size': 16, 'num_hidden_layers': 3,
     'num_attention_heads': 5, 'image_size': 12, 'patch_size': 4,
     'layer_norm_eps': 1e-5, 'qkv_bias': False, 'hidden_act': 'gelu_new'},
    {'add_pooling_layer': False},
    [(12, 12), (20, 9)],
  ),
  'vit_classes': (
    transformers.ViTForImageClassification,
    {'hidden_size': 16, 'intermediate_size': 28, 'num_hidden_layers': 1,
     'num_attention_heads': 2, 'image_size': 16, 'patch_size': 8,
     'hidden_act': 'relu', 'num_labels': 7},
    {},
    [(16, 16)],
  ),
  'dinov2_odd': (
    transformers.Dinov2Model,
    {'hidden_size': 18, 'num_hidden_layers': 2, 'num_attention_heads': 3,
     'image_size': 28, 'patch_size': 7, 'layerscale_value': 0.7},
    {},
    [(28, 28), (21, 14), (7, 50)],
  ),
  'dinov2_swiglu': (
    transformers.Dinov2Model,
    {'hidden_size': 20, 'num_hidden_layers': 3, 'num_attention_heads': 4,
     'image_size': 12, 'patch_size': 4, 'use_swiglu_ffn': True,
     'use_mask_token': False, 'mlp_ratio': 3},
    {},
    [(17, 29)],
  ),
  'dinov2_classes': (
    transformers.Dinov2ForImageClassification,
    {'hidden_size': 16, 'num_hidden_layers': 1, 'num_attention_heads': 2,
     'image_size': 12, 'patch_size': 4, 'num_labels': 5,
     'layer_norm_eps': 1e-4, 'qkv_bias': False},
    {},
    [(8, 8)],
  ),
  'registers_odd': (
    transformers.Dinov2WithRegistersModel,
    {'hidden_size': 18, 'num_hidden_layers': 2, 'num_attention_heads': 3,
     'image_size': 28, 'patch_size': 7, 'num_register_tokens': 3},
    {},
    [(28, 28), (14, 21), (50, 7)],
  ),
  'registers_swiglu': (
    transformers.Dinov2WithRegistersModel,
    {'hidden_size': 20, 'num_hidden_layers': 3, 'num_attention_heads': 4,
     'image_size': 12, 'patch_size': 4, 'use_swiglu_ffn': True,
     'num_register_tokens': 1},
    {},
    [(29, 17)],
  ),
  'registers_classes': (
    transformers.Dinov2WithRegistersForImageClassification,
    {'hidden_size': 16, 'num_hidden_layers': 1, 'num_attention_heads': 2,
     'image_size': 12, 'patch_size': 4, 'num_labels': 5,
     'hidden_act': 'gelu_new'},
    {},
    [(12, 12)],
  ),
  'resnet_bottleneck': (
    transformers.ResNetModel,
    {'embedding_size': 6, 'hidden_sizes': [24, 48], 'depths': [2, 1]},
    {},
    [(21, 30)],
  ),
  'resnet_basic': (
    transformers.ResNetModel,
    {'embedding_size': 5, 'hidden_sizes': [5, 10, 20], 'depths': [1, 2, 1],
     'layer_type': 'basic'},
    {},
    [(33, 33)],
  ),
  'resnet_classes': (
    transformers.ResNetForImageClassification,
    {'embedding_size': 4, 'hidden_sizes': [16, 32, 64], 'depths': [1, 1, 2],
     'num_labels': 5},
    {},
    [(32, 40)],
  ),
}  # fmt: skip


def original(name):
  torch.manual_seed(0)
  make, settings, more, _ = CONFIGS[name]
  model = harness.randomise(make(make.config_class(**settings), **more))
  for name, buffer in model.named_buffers():
    if name.endswith('running_mean'):  # Statistics other than 0 and 1.
      buffer.copy_(torch.randn(buffer.shape) * 0.2)
    if name.endswith('running_var'):
      buffer.copy_(torch.rand(buffer.shape) + 0.2)
  return model


def images(size):
  rng = np.random.default_rng(0)
  return rng.normal(size=(3, *size, 3)).astype(np.float32)


def theirs_of(model, pixels):
  """What transformers gives, as (tokens, pooled or None, logits or None)."""
  more = {}
  if model.config.model_type == 'vit':
    more['interpolate_pos_encoding'] = True
  pixels = torch.tensor(pixels).permute(0, 3, 1, 2)
  if hasattr(model, 'classifier'):
    out = model(pixels, output_hidden_states=True, **more)
    return None, None, out.logits
  out = model(pixels, **more)
  if model.config.model_type == 'resnet':
    tokens = out.last_hidden_state.flatten(2).transpose(1, 2)
    return tokens, out.pooler_output[:, :, 0, 0], None
  return out.last_hidden_state, out.pooler_output, None


@pytest.fixture(scope='module', params=CONFIGS)
def case(request, tmp_path_factory):
  model = original(request.param)
  folder = tmp_path_factory.mktemp(request.param)
  loaded = harness.load_saved(model, folder)
  _, _, more, sizes = CONFIGS[request.param]
  return model, loaded, sizes, more


def test_outputs_agree(case):
  model, loaded, sizes, _ = case
  for size in sizes:
    pixels = images(size)
    with torch.no_grad():
      tokens, pooled, logits = theirs_of(model, pixels)
    assert (tokens if logits is None else logits).std() > 1e-2
    if logits is not None:
      got = loaded.jit_method('classify')(loaded.params, pixels)
      harness.check_close(got, logits.numpy())
      continue
    got = loaded.jit_method('encode')(loaded.params, pixels)
    harness.check_close(got.values, tokens.numpy())
    if pooled is None:
      pooled = tokens[:, 0]
    harness.check_close(got.pooled, pooled.numpy())


def test_gradients_agree(case):
  model, loaded, sizes, _ = case
  pixels = images(sizes[-1])

  def loss(params):
    out = loaded.module.apply(
      {'params': params}, {'image': pixels}, train=False
    )
    if 'class_logits' in out:
      return jnp.mean(out['class_logits'] ** 2)
    tokens = out['tokens']
    return jnp.mean(tokens.values**3) + jnp.mean(tokens.pooled**2)

  def their_loss(model):
    tokens, pooled, logits = theirs_of(model, pixels)
    if logits is not None:
      return (logits**2).mean()
    if pooled is None:
      pooled = tokens[:, 0]
    return (tokens**3).mean() + (pooled**2).mean()

  harness.check_gradients(model, loaded, their_loss, loss)


def test_what_is_saved_loads_there(case, tmp_path):
  harness.check_saved(*case[:2], tmp_path, **case[3])


@pytest.mark.parametrize('name', ['dinov2_odd', 'registers_odd'])
def test_masked_patches_agree(name, tmp_path):
  model = original(name)
  loaded = harness.load_saved(model, tmp_path)
  pixels = images((14, 28))
  masked = np.random.default_rng(0).random((3, 8)) < 0.4
  with torch.no_grad():
    want = model(
      torch.tensor(pixels).permute(0, 3, 1, 2),
      bool_masked_pos=torch.tensor(masked),
    )
  encoder = loaded.module.encoder
  got = jax.jit(functools.partial(encoder.apply, train=False))(
    {'params': loaded.params['encoder']}, pixels, masked=masked
  )
  harness.check_close(got.values, want.last_hidden_state.numpy())


PROCESSORS = {
  'vit': (
    transformers.ViTImageProcessorPil,
    {'size': {'height': 24, 'width': 30}},
    vit,
  ),
  'dinov2': (
    transformers.BitImageProcessorPil,
    {
      'size': {'shortest_edge': 28},
      'crop_size': {'height': 24, 'width': 24},
      'image_mean': [0.485, 0.456, 0.406],
      'image_std': [0.229, 0.224, 0.225],
    },
    dinov2,
  ),
  'resnet': (
    transformers.ConvNextImageProcessorPil,
    {'size': {'shortest_edge': 24}},
    resnet,
  ),
  'resnet_large': (
    transformers.ConvNextImageProcessorPil,
    {'size': {'shortest_edge': 384}, 'crop_pct': 0.9},
    resnet,
  ),
}


@pytest.mark.parametrize('name', PROCESSORS)
@pytest.mark.parametrize('size', [(50, 31), (31, 50), (16, 16), (20, 90)])
def test_images_are_prepared_alike(name, size, tmp_path):
  make, settings, family = PROCESSORS[name]
  processor = make(**settings)
  processor.save_pretrained(tmp_path)
  config = json.loads((tmp_path / 'preprocessor_config.json').read_text())
  pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
  image = PIL.Image.fromarray(pixels)
  want = processor(image, return_tensors='np')['pixel_values'][0]
  ours = pretrained.preprocess.ImagePreprocessor.from_config(
    config, family.Model.image_defaults
  )
  harness.close(ours(image), want.transpose(1, 2, 0), atol=1e-6)


def test_older_files_say_a_size_in_one_number():
  config = {'size': 24, 'resample': 2, 'image_mean': [0.5], 'image_std': [0.5]}
  ours = pretrained.preprocess.ImagePreprocessor.from_config(
    config, vit.Model.image_defaults
  )
  processor = transformers.ViTImageProcessorPil(
    size=24, image_mean=[0.5] * 3, image_std=[0.5] * 3
  )
  pixels = np.random.default_rng(0).integers(0, 256, (31, 50, 3), np.uint8)
  image = PIL.Image.fromarray(pixels)
  want = processor(image, return_tensors='np')['pixel_values'][0]
  harness.close(ours(image), want.transpose(1, 2, 0), atol=1e-6)
