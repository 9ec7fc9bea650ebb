"""Video encoders and classifiers here equal those of transformers."""

import json

import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
import torch
import transformers

from mmjax import pretrained
from mmjax.pretrained import videomae
from tests.oracles import harness

CONFIGS = {
  'odd': (
    transformers.VideoMAEModel,
    {'hidden_size': 30, 'intermediate_size': 40, 'num_hidden_layers': 2,
     'num_attention_heads': 5, 'image_size': 21, 'patch_size': 7,
     'num_frames': 6, 'tubelet_size': 3},
  ),
  'first': (
    transformers.VideoMAEModel,
    {'hidden_size': 24, 'intermediate_size': 20, 'num_hidden_layers': 3,
     'num_attention_heads': 2, 'image_size': 12, 'patch_size': 4,
     'num_frames': 4, 'tubelet_size': 1, 'use_mean_pooling': False,
     'qv_bias': False, 'hidden_act': 'gelu_new', 'layer_norm_eps': 1e-5},
  ),
  'classes': (
    transformers.VideoMAEForVideoClassification,
    {'hidden_size': 16, 'intermediate_size': 28, 'num_hidden_layers': 1,
     'num_attention_heads': 4, 'image_size': 16, 'patch_size': 8,
     'num_frames': 8, 'num_labels': 7, 'hidden_act': 'relu'},
  ),
  'first_classes': (
    transformers.VideoMAEForVideoClassification,
    {'hidden_size': 18, 'intermediate_size': 12, 'num_hidden_layers': 2,
     'num_attention_heads': 3, 'image_size': 10, 'patch_size': 5,
     'num_frames': 2, 'num_labels': 3, 'use_mean_pooling': False},
  ),
}  # fmt: skip


@pytest.fixture(scope='module', params=CONFIGS)
def case(request, tmp_path_factory):
  torch.manual_seed(0)
  make, settings = CONFIGS[request.param]
  model = harness.randomise(make(make.config_class(**settings)))
  folder = tmp_path_factory.mktemp(request.param)
  return model, harness.load_saved(model, folder)


def videos(config):
  side = config.image_size
  rng = np.random.default_rng(0)
  shape = (3, config.num_frames, side, side, 3)
  return rng.normal(size=shape).astype(np.float32)


def theirs_of(model, pixels):
  """What transformers gives: logits, or tokens."""
  out = model(torch.tensor(pixels).permute(0, 1, 4, 2, 3))
  return out.logits if 'logits' in out else out.last_hidden_state


def ours_of(loaded, params, pixels):
  """The same."""
  out = loaded.module.apply({'params': params}, {'video': pixels}, train=False)
  return out['class_logits'] if 'class_logits' in out else out['tokens'].values


def test_outputs_agree(case):
  model, loaded = case
  pixels = videos(model.config)
  with torch.no_grad():
    want = theirs_of(model, pixels)
  assert want.std() > 1e-2
  harness.check_close(ours_of(loaded, loaded.params, pixels), want.numpy())


def test_gradients_agree(case):
  model, loaded = case
  pixels = videos(model.config)
  harness.check_gradients(
    model,
    loaded,
    lambda model: (theirs_of(model, pixels) ** 3).mean(),
    lambda params: jnp.mean(ours_of(loaded, params, pixels) ** 3),
  )


def test_what_is_saved_loads_there(case, tmp_path):
  harness.check_saved(*case, tmp_path)


@pytest.mark.parametrize('size', [(50, 31), (31, 50), (16, 16), (20, 90)])
def test_videos_are_prepared_alike(size, tmp_path):
  processor = transformers.VideoMAEImageProcessorPil(
    size={'shortest_edge': 28}, crop_size={'height': 24, 'width': 24}
  )
  processor.save_pretrained(tmp_path)
  config = json.loads((tmp_path / 'preprocessor_config.json').read_text())
  pixels = np.random.default_rng(0).integers(0, 256, (3, *size, 3), np.uint8)
  frames = [PIL.Image.fromarray(frame) for frame in pixels]
  want = processor(frames, return_tensors='np')['pixel_values'][0]
  ours = pretrained.preprocess.ImagePreprocessor.from_config(
    config, videomae.Model.image_defaults
  )
  for frame, expected in zip(frames, want, strict=True):
    harness.close(ours(frame), expected.transpose(1, 2, 0), atol=1e-6)
