"""CLIP here equals CLIP in transformers."""

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

close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-4)

TEXT = {'vocab_size': 99, 'bos_token_id': 97, 'eos_token_id': 98}
CONFIGS = {
  'odd': (
    {'hidden_size': 24, 'intermediate_size': 40, 'num_hidden_layers': 2,
     'num_attention_heads': 3, 'max_position_embeddings': 13, **TEXT},
    {'hidden_size': 30, 'intermediate_size': 50, 'num_hidden_layers': 3,
     'num_attention_heads': 5, 'image_size': 21, 'patch_size': 7},
    {'projection_dim': 18},
  ),
  'gelu': (
    {'hidden_size': 32, 'intermediate_size': 64, 'num_hidden_layers': 3,
     'num_attention_heads': 1, 'max_position_embeddings': 9,
     'hidden_act': 'gelu', **TEXT},
    {'hidden_size': 16, 'intermediate_size': 48, 'num_hidden_layers': 1,
     'num_attention_heads': 2, 'image_size': 32, 'patch_size': 16,
     'hidden_act': 'gelu', 'layer_norm_eps': 1e-3},
    {'projection_dim': 32, 'logit_scale_init_value': 1.5},
  ),
  'legacy_end': (
    {'hidden_size': 20, 'intermediate_size': 12, 'num_hidden_layers': 1,
     'num_attention_heads': 4, 'max_position_embeddings': 11,
     **TEXT, 'eos_token_id': 2},
    {'hidden_size': 28, 'intermediate_size': 36, 'num_hidden_layers': 2,
     'num_attention_heads': 7, 'image_size': 12, 'patch_size': 4},
    {'projection_dim': 7},
  ),
}  # fmt: skip
END = 98  # The largest id, which is what the legacy pooling looks for.


def original(name):
  torch.manual_seed(0)
  text, vision, both = CONFIGS[name]
  config = transformers.CLIPConfig(
    text_config=text, vision_config=vision, **both
  )
  model = transformers.CLIPModel(config).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      if parameter.ndim:  # Norms and biases, too, are away from 1 and 0.
        parameter.add_(torch.randn_like(parameter) * 0.1)
  return model


def batch(config):
  rng = np.random.default_rng(0)
  vision, length = (
    config.vision_config,
    config.text_config.max_position_embeddings,
  )
  images = rng.normal(size=(3, vision.image_size, vision.image_size, 3))
  ids = rng.integers(3, 90, (3, length))
  ends = np.asarray([length - 1, 4, 2])
  ids[np.arange(3), ends] = END
  mask = np.arange(length)[None] <= ends[:, None]
  ids = np.where(mask, ids, 1)
  return images.astype(np.float32), ids, mask


@pytest.fixture(scope='module', params=CONFIGS)
def pair(request, tmp_path_factory):
  model = original(request.param)
  folder = tmp_path_factory.mktemp(request.param)
  model.save_pretrained(folder)
  return model, pretrained.load(folder)


def theirs(model, images, ids, mask):
  return model(
    input_ids=torch.tensor(ids),
    pixel_values=torch.tensor(images).permute(0, 3, 1, 2),
    attention_mask=torch.tensor(mask).long(),
  )


def test_outputs_agree(pair):
  model, loaded = pair
  images, ids, mask = batch(model.config)
  with torch.no_grad():
    want = theirs(model, images, ids, mask)
  got = jax.jit(functools.partial(loaded.module.apply, train=False))(
    {'params': loaded.params},
    {'image': images, 'text': ids, 'text_mask': mask},
  )
  close(got['image_embedding'], want.image_embeds.numpy())
  close(got['text_embedding'], want.text_embeds.numpy())
  logits = got['logit_scale'] * got['image_embedding'] @ got['text_embedding'].T
  close(logits, want.logits_per_image.numpy(), atol=1e-3)


def test_gradients_agree(pair):
  model, loaded = pair
  images, ids, mask = batch(model.config)
  out = theirs(model, images, ids, mask)
  model.zero_grad()
  (out.logits_per_image**2).mean().backward()
  want = {
    name: parameter.grad.numpy() for name, parameter in model.named_parameters()
  }

  ours = {'image': images, 'text': ids, 'text_mask': mask}
  ours = jax.tree.map(jnp.asarray, ours)

  def loss(params):
    out = loaded.module.apply({'params': params}, ours, train=False)
    logits = (
      out['logit_scale'] * out['image_embedding'] @ out['text_embedding'].T
    )
    return jnp.mean(logits**2)

  gradient = jax.jit(jax.grad(loss))(loaded.params)
  rules = pretrained.clip.rules(loaded.config)
  got = dict(pretrained.keys.save(rules, gradient))
  assert got.keys() == want.keys()
  for name, value in want.items():
    size = max(1, np.abs(value).max())
    close(got[name] / size, value / size, err_msg=name)


def test_what_is_saved_loads_there(pair, tmp_path):
  model, loaded = pair
  pretrained.save(loaded, tmp_path, shard_bytes=20_000)
  again, told = transformers.CLIPModel.from_pretrained(
    tmp_path, output_loading_info=True
  )
  assert not any(told.values()), told
  want = model.state_dict()
  for name, value in again.state_dict().items():
    np.testing.assert_array_equal(value.numpy(), want[name].numpy())


@pytest.mark.parametrize('size', [(50, 31), (31, 50), (16, 16), (20, 90)])
def test_pictures_are_prepared_alike(size, tmp_path):
  processor = transformers.CLIPImageProcessorPil(
    size={'shortest_edge': 28}, crop_size={'height': 24, 'width': 30}
  )
  processor.save_pretrained(tmp_path)
  config = json.loads((tmp_path / 'preprocessor_config.json').read_text())
  pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
  picture = PIL.Image.fromarray(pixels)
  want = processor(picture, return_tensors='np')['pixel_values'][0]
  got = pretrained.preprocess.ImagePreprocessor.from_config(config)(picture)
  close(got, want.transpose(1, 2, 0), atol=1e-6)
