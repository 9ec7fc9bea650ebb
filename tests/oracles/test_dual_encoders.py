"""Dual encoders here equal those of transformers."""

import functools
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
import tokenizers
import torch
import transformers

from mmjax import pretrained
from mmjax.pretrained import clip, siglip
from tests.oracles import harness

TEXT = {'vocab_size': 99, 'bos_token_id': 97, 'eos_token_id': 98}
CONFIGS = {
  'clip_odd': (
    {'hidden_size': 24, 'intermediate_size': 40, 'num_hidden_layers': 2,
     'num_attention_heads': 3, 'max_position_embeddings': 13, **TEXT},
    {'hidden_size': 30, 'intermediate_size': 50, 'num_hidden_layers': 3,
     'num_attention_heads': 5, 'image_size': 21, 'patch_size': 7},
    {'projection_dim': 18},
  ),
  'clip_gelu': (
    {'hidden_size': 32, 'intermediate_size': 64, 'num_hidden_layers': 3,
     'num_attention_heads': 1, 'max_position_embeddings': 9,
     'hidden_act': 'gelu', **TEXT},
    {'hidden_size': 16, 'intermediate_size': 48, 'num_hidden_layers': 1,
     'num_attention_heads': 2, 'image_size': 32, 'patch_size': 16,
     'hidden_act': 'gelu', 'layer_norm_eps': 1e-3},
    {'projection_dim': 32, 'logit_scale_init_value': 1.5},
  ),
  'clip_legacy_end': (
    {'hidden_size': 20, 'intermediate_size': 12, 'num_hidden_layers': 1,
     'num_attention_heads': 4, 'max_position_embeddings': 11,
     **TEXT, 'eos_token_id': 2},
    {'hidden_size': 28, 'intermediate_size': 36, 'num_hidden_layers': 2,
     'num_attention_heads': 7, 'image_size': 12, 'patch_size': 4},
    {'projection_dim': 7},
  ),
  'siglip_odd': (
    {'hidden_size': 30, 'intermediate_size': 44, 'num_hidden_layers': 2,
     'num_attention_heads': 3, 'max_position_embeddings': 7, **TEXT},
    {'hidden_size': 30, 'intermediate_size': 50, 'num_hidden_layers': 3,
     'num_attention_heads': 5, 'image_size': 21, 'patch_size': 7},
    {},
  ),
  'siglip_two_widths': (
    {'hidden_size': 12, 'intermediate_size': 64, 'num_hidden_layers': 1,
     'num_attention_heads': 1, 'max_position_embeddings': 16,
     'projection_size': 20, **TEXT},
    {'hidden_size': 20, 'intermediate_size': 18, 'num_hidden_layers': 1,
     'num_attention_heads': 4, 'image_size': 19, 'patch_size': 8},
    {},
  ),
  'siglip_relu': (
    {'hidden_size': 16, 'intermediate_size': 20, 'num_hidden_layers': 3,
     'num_attention_heads': 2, 'max_position_embeddings': 9,
     'hidden_act': 'relu', 'layer_norm_eps': 1e-3, **TEXT},
    {'hidden_size': 16, 'intermediate_size': 48, 'num_hidden_layers': 2,
     'num_attention_heads': 2, 'image_size': 12, 'patch_size': 4,
     'hidden_act': 'gelu', 'layer_norm_eps': 1e-4},
    {},
  ),
}  # fmt: skip
FAMILIES = {
  'clip': (transformers.CLIPConfig, transformers.CLIPModel, clip),
  'siglip': (
    transformers.SiglipConfig,
    transformers.SiglipModel,
    siglip,
  ),
}
END = 98  # The largest id, which is what CLIP's legacy pooling looks for.


def original(name):
  torch.manual_seed(0)
  text, vision, both = CONFIGS[name]
  make_config, make_model, _ = FAMILIES[name.split('_')[0]]
  config = make_config(text_config=text, vision_config=vision, **both)
  return harness.randomise(make_model(config))


def batch(config):
  """What each of the two reads; the texts have padding."""
  rng = np.random.default_rng(0)
  vision, text = config.vision_config, config.text_config
  length = text.max_position_embeddings
  images = rng.normal(size=(3, vision.image_size, vision.image_size, 3))
  images = images.astype(np.float32)
  ids = rng.integers(3, 90, (3, length))
  ends = np.asarray([length - 1, 4, 2])
  ids[np.arange(3), ends] = END
  mask = np.arange(length)[None] <= ends[:, None]
  ids = np.where(mask, ids, 1)
  theirs = {
    'input_ids': torch.tensor(ids),
    'pixel_values': torch.tensor(images).permute(0, 3, 1, 2),
  }
  ours = {'image': jnp.asarray(images), 'text': jnp.asarray(ids)}
  if config.model_type == 'clip':  # SigLIP reads its padding.
    theirs['attention_mask'] = torch.tensor(mask).long()
    ours['text_mask'] = jnp.asarray(mask)
  return theirs, ours


def logits_of(out):
  logits = out['logit_scale'] * out['image_embedding'] @ out['text_embedding'].T
  return logits + out.get('logit_bias', 0.0)


@pytest.fixture(scope='module', params=CONFIGS)
def pair(request, tmp_path_factory):
  model = original(request.param)
  folder = tmp_path_factory.mktemp(request.param)
  return model, harness.load_saved(model, folder)


def test_outputs_agree(pair):
  model, loaded = pair
  theirs, ours = batch(model.config)
  with torch.no_grad():
    want = model(**theirs)
  apply = functools.partial(loaded.module.apply, train=False)
  got = jax.jit(apply)({'params': loaded.params}, ours)
  harness.close(got['image_embedding'], want.image_embeds.numpy())
  harness.close(got['text_embedding'], want.text_embeds.numpy())
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


PROCESSORS = {
  'clip': (
    transformers.CLIPImageProcessorPil,
    {
      'size': {'shortest_edge': 28},
      'crop_size': {'height': 24, 'width': 30},
    },
  ),
  'siglip': (
    transformers.SiglipImageProcessorPil,
    {'size': {'height': 24, 'width': 30}},
  ),
}


@pytest.mark.parametrize('family', PROCESSORS)
@pytest.mark.parametrize('size', [(50, 31), (31, 50), (16, 16), (20, 90)])
def test_images_are_prepared_alike(family, size, tmp_path):
  make, settings = PROCESSORS[family]
  processor = make(**settings)
  processor.save_pretrained(tmp_path)
  config = json.loads((tmp_path / 'preprocessor_config.json').read_text())
  pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
  image = PIL.Image.fromarray(pixels)
  want = processor(image, return_tensors='np')['pixel_values'][0]
  ours = pretrained.preprocess.ImagePreprocessor.from_config(
    config, FAMILIES[family][2].Model.image_defaults
  )
  harness.close(ours(image), want.transpose(1, 2, 0), atol=1e-6)


# The tokenizer's end is 1; 2 is what early config.json files say, and 3 and 9
# stand in some of the texts.
@pytest.mark.parametrize('end', [1, 2, 3, 9])
def test_clip_pools_where_transformers_does(end, tmp_path):
  """Also where the end of text stands in it twice, or never comes."""
  golden = pathlib.Path(__file__).parents[1] / 'pretrained/golden/clip'
  source = shutil.copytree(golden, tmp_path / 'clip')
  config = json.loads((source / 'config.json').read_text())
  config['text_config']['eos_token_id'] = end
  (source / 'config.json').write_text(json.dumps(config))
  loaded = pretrained.load(source)
  texts = ['red cat a', 'cat blue', 'a large circle square cat']
  model = transformers.CLIPModel.from_pretrained(source).eval()
  own = tokenizers.Tokenizer.from_file(str(source / 'tokenizer.json'))
  own.enable_truncation(loaded.module.text.max_length)
  own.enable_padding(pad_id=1, length=loaded.module.text.max_length)
  encoded = own.encode_batch(texts)
  with torch.no_grad():
    want = model.get_text_features(
      input_ids=torch.tensor([one.ids for one in encoded]),
      attention_mask=torch.tensor([one.attention_mask for one in encoded]),
    )
  want = getattr(want, 'pooler_output', want).numpy()
  want = want / np.linalg.norm(want, axis=-1, keepdims=True)
  harness.check_close(loaded.encode_text(texts), want)
