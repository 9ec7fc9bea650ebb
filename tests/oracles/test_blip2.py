"""BLIP-2 here equals that of transformers."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
import torch
import transformers

from mmjax.pretrained import blip2, preprocess
from tests.oracles import harness, test_t5

IMAGE, EOS, PAD = 60, 1, 0
VOCABULARY = {'vocab_size': 61, 'eos_token_id': EOS, 'pad_token_id': PAD}
OPT = {'model_type': 'opt', 'bos_token_id': 2, **VOCABULARY}
T5 = {'model_type': 't5', 'decoder_start_token_id': 0, **VOCABULARY}
CONFIGS = {
  'opt_odd': (
    {'hidden_size': 30, 'intermediate_size': 50, 'num_hidden_layers': 2,
     'num_attention_heads': 5, 'image_size': 21, 'patch_size': 7},
    {'hidden_size': 12, 'intermediate_size': 17, 'num_hidden_layers': 3,
     'num_attention_heads': 3},
    {'hidden_size': 20, 'ffn_dim': 31, 'num_hidden_layers': 2,
     'num_attention_heads': 5, 'max_position_embeddings': 44, **OPT},
    5,
  ),
  'opt_every_third': (
    {'hidden_size': 16, 'intermediate_size': 12, 'num_hidden_layers': 1,
     'num_attention_heads': 1, 'image_size': 16, 'patch_size': 4,
     'hidden_act': 'gelu_new', 'layer_norm_eps': 1e-3},
    {'hidden_size': 20, 'intermediate_size': 24, 'num_hidden_layers': 4,
     'num_attention_heads': 2, 'cross_attention_frequency': 3,
     'hidden_act': 'relu', 'layer_norm_eps': 1e-5},
    {'hidden_size': 18, 'ffn_dim': 24, 'num_hidden_layers': 3,
     'num_attention_heads': 2, 'max_position_embeddings': 50, **OPT},
    3,
  ),
  't5_tied': (
    {'hidden_size': 12, 'intermediate_size': 28, 'num_hidden_layers': 2,
     'num_attention_heads': 2, 'image_size': 24, 'patch_size': 8},
    {'hidden_size': 16, 'intermediate_size': 20, 'num_hidden_layers': 2,
     'num_attention_heads': 4},
    {**test_t5.CONFIGS['odd'], **T5},
    4,
  ),
  't5_flan': (
    {'hidden_size': 18, 'intermediate_size': 20, 'num_hidden_layers': 2,
     'num_attention_heads': 3, 'image_size': 14, 'patch_size': 7},
    {'hidden_size': 8, 'intermediate_size': 30, 'num_hidden_layers': 1,
     'num_attention_heads': 1},
    {**test_t5.CONFIGS['gated'], **T5},
    7,
  ),
}  # fmt: skip
LENGTHS = np.asarray([9, 5, 2])
ANSWERS = np.asarray([3, 8, 6])


def original(name):
  torch.manual_seed(0)
  vision, queries, text, number = CONFIGS[name]
  config = transformers.Blip2Config(
    vision_config=vision,
    qformer_config=queries,
    text_config=text,
    num_query_tokens=number,
    image_token_index=IMAGE,
  )
  model = transformers.Blip2ForConditionalGeneration(config)
  if name == 't5_flan':
    head = model.language_model.lm_head
    head.weight = torch.nn.Parameter(torch.randn(head.weight.shape) * 0.3)
    for one, key in (
      (model, 'language_model.lm_head.weight'),
      (model.language_model, 'lm_head.weight'),
    ):
      one.all_tied_weights_keys.pop(key)
  model = harness.randomise(model, 0.3)
  generator = torch.Generator().manual_seed(1)
  with torch.no_grad():
    for key, parameter in model.named_parameters():
      if key.endswith('language_model.decoder.final_layer_norm.weight'):
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
      elif 'language_model' in key and parameter.ndim > 1:
        if 'embed' in key or 'shared' in key or 'lm_head' in key:
          parameter[EOS] = 0.0  # Long texts.
        elif not key.endswith('.q.weight'):
          parameter.mul_(1.5)
      elif key == 'query_tokens':
        parameter.mul_(3.0)
  return model


@pytest.fixture(scope='module', params=CONFIGS)
def case(request, tmp_path_factory):
  model = original(request.param)
  folder = tmp_path_factory.mktemp(request.param)
  return request.param, model, harness.load_saved(model, folder)


def prompts(name, left=False):
  """Images, and texts behind their placeholders, with padding."""
  vision, _, _, number = CONFIGS[name]
  rng = np.random.default_rng(0)
  side = vision['image_size']
  images = rng.normal(size=(3, side, side, 3)).astype(np.float32)
  lengths = LENGTHS + number
  steps = np.arange(lengths.max())[None]
  mask = steps < lengths[:, None]
  ids = rng.integers(6, IMAGE, mask.shape)
  ids = np.where(steps < number, IMAGE, np.where(mask, ids, PAD))
  if left:
    rows = [
      (np.roll(ids[i], -n), np.roll(mask[i], -n)) for i, n in enumerate(lengths)
    ]
    ids, mask = map(np.stack, zip(*rows, strict=True))
  return images, ids, mask


def ours(name, left=False):
  images, ids, mask = prompts(name, left)
  batch = {'image': jnp.asarray(images)[:, None]}
  batch |= {'text': jnp.asarray(ids), 'text_mask': jnp.asarray(mask)}
  if name.startswith('t5'):
    answer, there = test_t5.texts(1, ANSWERS)
    batch['answer'] = jnp.pad(jnp.asarray(answer), ((0, 0), (0, 1)))
    batch['answer_mask'] = jnp.pad(jnp.asarray(there), ((0, 0), (0, 1)))
  return batch


def theirs(name, left=False):
  images, ids, mask = prompts(name, left)
  return {
    'pixel_values': torch.tensor(images).permute(0, 3, 1, 2),
    'input_ids': torch.tensor(ids),
    'attention_mask': torch.tensor(mask).long(),
  }


def their_logits(name, model):
  given = theirs(name)
  if name.startswith('t5'):
    answer, there = test_t5.texts(1, ANSWERS)
    given['decoder_input_ids'] = torch.tensor(answer)
    given['decoder_attention_mask'] = torch.tensor(there).long()
  return model(**given).logits


def kept(name):
  if name.startswith('t5'):
    return test_t5.texts(1, ANSWERS)[1]
  return prompts(name)[2]


def logits(name, module, params):
  out = module.apply({'params': params}, ours(name), train=False)
  return out['answer_token_logits' if name.startswith('t5') else 'text_logits']


def test_outputs_agree(case):
  name, model, loaded = case
  with torch.no_grad():
    want = their_logits(name, model).numpy()
  got = jax.jit(lambda params: logits(name, loaded.module, params))(
    loaded.params
  )
  mask = kept(name)
  assert want[mask].std(axis=0).mean() > 0.1
  harness.check_close(np.asarray(got)[mask], want[mask])


def test_gradients_agree(case):
  name, model, loaded = case
  mask = kept(name)

  def loss(params):
    return jnp.mean(logits(name, loaded.module, params)[mask] ** 2)

  def their_loss(model):
    return (their_logits(name, model)[torch.tensor(mask)] ** 2).mean()

  harness.check_gradients(model, loaded, their_loss, loss)


@pytest.mark.filterwarnings('ignore:The tied weights mapping')
def test_what_is_saved_loads_there(case, tmp_path):
  _, model, loaded = case
  harness.check_saved(model, loaded, tmp_path)


def test_greedy_writing_agrees(case):
  name, model, loaded = case
  program = loaded.jit_method(
    'generate', text_kind='continue', max_new_tokens=20, eos_id=EOS, pad_id=PAD
  )
  want = model.generate(
    **theirs(name, left=True),
    max_new_tokens=20,
    do_sample=False,
    eos_token_id=EOS,
    pad_token_id=PAD,
  )[:, -20:]
  for left in (False, True):
    batch = {k: v for k, v in ours(name, left).items() if 'answer' not in k}
    got = np.asarray(program(loaded.params, batch).tokens)
    np.testing.assert_array_equal(got, want)
  assert len(np.unique(got)) > 4


def test_images_are_prepared_as_there(tmp_path):
  processor = transformers.BlipImageProcessorPil(
    size={'height': 21, 'width': 21}
  )
  processor.save_pretrained(tmp_path)
  settings = json.loads((tmp_path / 'preprocessor_config.json').read_text())
  prepare = preprocess.ImagePreprocessor.from_config(
    settings, blip2.Model.image_defaults
  )
  rng = np.random.default_rng(0)
  for shape in ((40, 31, 3), (13, 57, 3)):
    image = PIL.Image.fromarray(rng.integers(0, 256, shape, np.uint8))
    want = processor(image, return_tensors='np')['pixel_values'][0]
    np.testing.assert_allclose(
      prepare(image), want.transpose(1, 2, 0), rtol=0, atol=1e-6
    )


def test_other_sizes_of_images_agree(case):
  name, model, loaded = case
  given = theirs(name)
  side = given['pixel_values'].shape[-1]
  patch = CONFIGS[name][0]['patch_size']
  images = np.random.default_rng(1).normal(size=(3, side + patch, side, 3))
  given['pixel_values'] = torch.tensor(np.float32(images)).permute(0, 3, 1, 2)
  with torch.no_grad():
    want = model.get_image_features(
      given['pixel_values'], interpolate_pos_encoding=True
    ).pooler_output
  batch = {'image': jnp.asarray(images, jnp.float32)[:, None]}
  got = loaded.jit_method('encode_images')(loaded.params, batch)
  harness.check_close(got.values, want)
