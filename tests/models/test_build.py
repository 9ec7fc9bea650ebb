"""Models from plain data, and what is refused."""

import functools
import math

import jax
import jax.numpy as jnp
import ml_collections
import pytest

from mmjax import models

NAMES = ('dual_encoder', 'encoder_decoder', 'contrastive_captioner')


@pytest.mark.parametrize('name', NAMES)
def test_plain_data_and_config_dicts_give_the_same(name, config, build):
  plain = config(name)
  plain['image'] = {**plain['image'], 'block': {'activation': 'gelu_tanh'}}
  assert build(ml_collections.ConfigDict(plain)) == build(plain)
  frozen = ml_collections.FrozenConfigDict(plain)
  assert build(frozen) == build(plain)


def test_sizes_reach_the_parts(config, build):
  model = build(config('encoder_decoder'), dtype='bfloat16')
  assert model.question.vocab_size == model.decoder.vocab_size == 11
  assert model.question.max_length == 3
  assert model.decoder.max_length == 5  # The longest of all texts.
  assert model.num_answers == 6
  assert model.image.dtype == model.fusion.dtype == jnp.bfloat16


def test_a_set_max_length_stays(config, build):
  changed = config('dual_encoder')
  changed['text'] = {**changed['text'], 'max_length': 77}
  assert build(changed).text.max_length == 77


def test_a_part_can_be_left_out(config, build):
  changed = {**config('encoder_decoder'), 'question': None, 'fusion': None}
  assert build(changed).question is None


def changed(config, path, value):
  *parents, last = path.split('.')
  inner = config
  for name in parents:
    inner[name] = dict(inner[name])
    inner = inner[name]
  if value is ...:
    del inner[last]
  else:
    inner[last] = value
  return config


@pytest.mark.parametrize(
  'path, value, message',
  [
    ('name', 'clip', r"model\.name 'clip' is unknown; use one of \['dual"),
    ('name', ..., r'model\.name None is unknown; use one of'),
    ('image.name', 'vgh', r"model\.image\.name 'vgh' is unknown; .*'resnet'"),
    ('text.name', ..., r"model\.text\.name None is unknown; .*'recurrent'"),
    ('image.size', 3, r'model\.image\.size is unknown; ViT has \['),
    ('embed_dims', 3, r'model\.embed_dims is unknown; DualEncoder has \['),
    ('dtype', 'float16', r'model\.dtype is unknown'),
    ('text.vocab_size', 3, r'model\.text\.vocab_size is 3, but .* is 11'),
    ('embed_dim', ..., r'model\.embed_dim is missing; DualEncoder needs'),
    ('image', ..., r'model\.image is missing; DualEncoder needs'),
    ('image.width', ..., r"model\.image\.width is missing; ViT needs \['wid"),
    ('embed_dim', '5', r"model\.embed_dim must be int, got '5' \(str\)"),
    ('embed_dim', 5.0, r'model\.embed_dim must be int, got 5\.0 \(float\)'),
    ('embed_dim', True, r'model\.embed_dim must be int, got True \(bool\)'),
    ('logit_bias_init', 'x', r'logit_bias_init must be float or NoneType'),
    ('text.causal', 1, r'model\.text\.causal must be bool, got 1'),
    ('image.block', 3, r'model\.image\.block must be Mapping'),
    ('image.block', {'x': 1}, r'model\.image\.block\.x is unknown; a Block'),
    ('text.relative', {'x': 1}, r'text\.relative\.x is unknown; a Relative'),
    ('text.relative', {'buckets': 'x'}, r'relative\.buckets must be int'),
    ('image.block', {'gated': 1}, r'model\.image\.block\.gated must be bool'),
    ('text.num_heads', 0, r'model\.text\.num_heads must be more than 0, got 0'),
    ('embed_dim', -3, r'model\.embed_dim must be more than 0, got -3'),
    ('image.depth', -1, r'model\.image\.depth must be at least 0, got -1'),
    ('text.block', {'dropout': 1.5}, r'block\.dropout must be .* less than 1'),
    ('text.block', {'dropout': -1}, r'block\.dropout must be at least 0'),
    ('logit_scale_init', 0, r'model\.logit_scale_init must be more than 0'),
    ('logit_scale_init', math.nan, r'logit_scale_init must be more than 0'),
    ('decoder', {'name': 'text'}, r"model\.decoder is unknown; .*'image', 'te"),
  ],
)
def test_what_cannot_be_built_is_refused(path, value, message, config, build):
  with pytest.raises(ValueError, match=message):
    build(changed(config('dual_encoder'), path, value))


def test_a_whole_number_is_a_float(config, build):
  assert build(changed(config('dual_encoder'), 'logit_scale_init', 10))


def test_a_decoder_of_pictures_among_words_is_checked(config, build, batch):
  settings = config('image_first')
  for name, value, message in (
    ('positions', 'learned', 'length 8 is more than max_length 5'),
    ('cross_attention', True, 'cross_attention is True'),
  ):
    wrong = {**settings, 'decoder': {**settings['decoder'], name: value}}
    init = functools.partial(build(wrong).init, train=False)
    with pytest.raises(ValueError, match=message):
      jax.eval_shape(init, jax.random.key(0), batch)


def test_settings_of_what_there_is_not_are_refused():
  assert 'remat' in models.settings_of('vit')
  with pytest.raises(
    ValueError, match=r"'vitt' is unknown; .* did you mean 'vit'"
  ):
    models.settings_of('vitt')
