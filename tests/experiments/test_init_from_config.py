"""What `init_from` makes of a config, and what it refuses."""

import json
import re
import shutil
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest

from mmjax import models, pretrained
from mmjax.config import overrides
from mmjax.data import tokenizers
from mmjax.errors import ConfigError
from mmjax.ops import tree_paths
from mmjax.runs import init_from
from tests.pretrained import older_tokenizers

GOLDEN = Path(__file__).parents[1] / 'pretrained/golden'
same = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)


def test_another_loss_than_the_sources_is_told(make_config, capsys):
  config = make_config(GOLDEN / 'siglip')
  init_from.resolve(config)
  assert 'trained with the sigmoid loss' in capsys.readouterr().out
  config.tasks.contrastive.kind = 'sigmoid'
  init_from.resolve(config)
  assert 'sigmoid loss' not in capsys.readouterr().out


def test_an_embedder_starts_from_a_whole_model_with_images(make_config):
  config = make_config(GOLDEN / 'llava')
  own = {'name': 'embedder', 'pooling': 'tokens', 'embed_dim': 5}
  config.model = own
  config = init_from.resolve(config)
  assert {key: config.model[key] for key in own} == own
  assert 'placeholders' not in config.model  # No text has images.
  module = models.build(
    config.model,
    models.DataSizes(1),
    models.OutputSpec(embedded=('image', 'text')),
  )
  image = np.zeros((2, *config.data.image_size, 3), np.float32)
  batch = {'image': image, 'text': np.zeros((2, 3), np.int32)}
  init = lambda key: module.init(key, batch, train=False)
  params = nn.meta.unbox(jax.eval_shape(init, jax.random.key(0)))['params']
  wanted = set(tree_paths.flatten(params))
  found = init_from.find_paths(config, params)
  assert found <= wanted
  new = {path.partition('/')[0] for path in wanted - found}
  assert new == {'projection', 'scale'}


def test_texts_are_read_in_the_case_of_the_source(make_config):
  config = init_from.resolve(make_config(f'text={GOLDEN / "siglip2"}'))
  assert config.data.lower_case
  config = init_from.resolve(make_config(f'text={GOLDEN / "clip"}'))
  assert not config.data.lower_case


@pytest.mark.parametrize(
  ('source', 'message'),
  [
    ('nowhere', 'there is no folder nowhere'),
    ('noise={clip}', "'noise' is not a part of a model; use one of image"),
    ('image={clip},{bert}', 'of several folders each needs its part'),
    ('image={clip},image={clip}', 'image is named twice'),
    ('decoder={opt},text={bert}', 'data.tokenizer is .* start from parts that'),
    ('image={clip},', 'a folder is missing'),
    (
      'decoder={clip}',
      'DualEncoder without decoder; it has image, vision, tex',
    ),
    ('image={bert}', 'Transformer without image; it has text, question, enc'),
    ('encoder={clip}', 'without encoder; it has image, vision, text, question'),
    (
      '{bert_filler}',
      'not trained as a whole; start from a part, as in image=',
    ),
  ],
)
def test_what_cannot_start_a_run_is_named(make_config, source, message):
  names = ('clip', 'bert', 'bert_filler', 'opt')
  source = source.format(**{name: GOLDEN / name for name in names})
  with pytest.raises(ConfigError, match=message):
    init_from.resolve(make_config(source))


def test_a_source_of_words_needs_a_tokenizer(make_config, tmp_path):
  source = shutil.copytree(GOLDEN / 'clip', tmp_path / 'clip')
  (source / 'tokenizer.json').rename(tmp_path / 'tokenizer.json')
  for parts in (f'{source}', f'text={source}'):
    with pytest.raises(
      ConfigError, match=r'has no tokenizer.json, and .*tokenizer=F'
    ):
      init_from.resolve(make_config(parts))
  # Its image tower needs none.
  config = init_from.resolve(make_config(f'image={source}'))
  assert config.data.tokenizer == ''
  # The way out, which must agree with what other sources have.
  named = make_config(source)
  named.data.tokenizer = str(tmp_path / 'tokenizer.json')
  resolved = init_from.resolve(named)
  assert resolved.data.tokenizer == named.data.tokenizer
  named.init_from = f'text={source},decoder={GOLDEN / "opt"}'
  with pytest.raises(ConfigError, match='start from parts that agree'):
    init_from.resolve(named)


@pytest.mark.parametrize('which', ['clip', 'bert, accents', 't5'])
def test_a_tokenizer_is_built_from_older_files(
  make_config, tmp_path, monkeypatch, which
):
  monkeypatch.setenv('MMJAX_CACHE_DIR', str(tmp_path / 'cache'))
  source = shutil.copytree(GOLDEN / which.partition(',')[0], tmp_path / 'model')
  (source / 'tokenizer.json').unlink()
  older_tokenizers.write(source, which)
  file = init_from.resolve(make_config(f'text={source}')).data.tokenizer
  trained = tokenizers.Tokenizer.load(file)
  loaded = tokenizers.Tokenizer(pretrained.load(source).tokenizer)
  for text in ('The  CAT sat', 'café 10', ''):
    for one, other in zip(
      trained.encode(text, 9), loaded.encode(text, 9), strict=True
    ):
      np.testing.assert_array_equal(one, other)
  # The same file for a run that resumes; its name depends on no path.
  moved = source.rename(tmp_path / 'moved')
  assert init_from.resolve(make_config(f'text={moved}')).data.tokenizer == file


def test_older_files_that_make_no_tokenizer_are_named(make_config, tmp_path):
  source = shutil.copytree(GOLDEN / 'clip', tmp_path / 'clip')
  (source / 'tokenizer.json').unlink()
  older_tokenizers.write(source, 'clip')
  (source / 'merges.txt').unlink()
  with pytest.raises(ConfigError, match=r'no merges\.txt, .*tokenizer=FILE'):
    init_from.resolve(make_config(source))
  init_from.resolve(make_config(f'image={source}'))


def test_a_tokenizer_is_not_trained_with_other_settings(make_config, tmp_path):
  source = shutil.copytree(GOLDEN / 'clip', tmp_path / 'clip')
  path = source / 'tokenizer_config.json'
  path.write_text('{"split_special_tokens": true}')
  with pytest.raises(ConfigError, match='split_special_tokens is True'):
    init_from.resolve(make_config(source))
  init_from.resolve(make_config(f'image={source}'))


def test_parameters_that_do_not_fit_are_named(make_config):
  config = init_from.resolve(make_config(GOLDEN / 'clip'))
  wanted = pretrained.load(GOLDEN / 'clip').params
  wanted['scale'] = {}
  table = wanted['text']['words']['position_table']
  wanted['text']['words']['position_table'] = table[:-1]
  with pytest.raises(ConfigError) as told:
    init_from.load(config, wanted)
  assert 'scale/log_scale: the model has no such' in str(told.value)
  assert 'text/words/position_table: [8, 12] in the model' in str(told.value)


def test_what_concerns_training_stays_the_configs(make_config):
  config = make_config(GOLDEN / 'clip')
  config.model.text.dropout = 0.25
  config.model.text.width = 99
  config.model.text.block = {'dropout': 0.5, 'activation': 'relu'}
  resolved = init_from.resolve(config)
  assert resolved.model.text.dropout == 0.25
  assert resolved.model.text.block.dropout == 0.5
  assert resolved.model.text.block.activation != 'relu'
  assert resolved.model.text.width == 12
  config = make_config(f'image={GOLDEN / "vit"}')
  with config.unlocked():
    config.model.image.drop_path = 0.1
  resolved = init_from.resolve(config)
  assert resolved.model.image.name == 'vit'
  assert resolved.model.image.drop_path == 0.1
  assert resolved.model.text == config.model.text


def test_a_part_takes_what_the_config_has_of_it(make_config):
  config = make_config(f'text={GOLDEN / "t5"}')
  resolved = init_from.resolve(config)
  t5 = pretrained.load(GOLDEN / 't5').params
  wanted = {'text': {**t5['encoder'], 'words': t5['decoder']['words']}}
  same(tree_paths.unflatten(init_from.load(resolved, wanted)), wanted)
  # An encoder that has vectors of its own, as its decoder has.
  config = make_config(f'question={GOLDEN / "blip_answers"}')
  with config.unlocked():
    config.model.question = {'cross_attention': True}
  resolved = init_from.resolve(config)
  wanted = {
    'question': pretrained.load(GOLDEN / 'blip_answers').params['question']
  }
  same(tree_paths.unflatten(init_from.load(resolved, wanted)), wanted)
  # A tower of a matcher, without its cross-attention.
  config = make_config(f'text={GOLDEN / "blip_matches"}')
  resolved = init_from.resolve(config)
  assert not resolved.model.text.cross_attention
  flat = tree_paths.flatten(
    pretrained.load(GOLDEN / 'blip_matches').params['text']
  )
  flat = {k: v for k, v in flat.items() if 'cross_attention' not in k}
  wanted = {'text': tree_paths.unflatten(flat)}
  same(tree_paths.unflatten(init_from.load(resolved, wanted)), wanted)


def test_newer_files_say_how_pictures_are_prepared(make_config, tmp_path):
  shutil.copytree(GOLDEN / 'clip', tmp_path, dirs_exist_ok=True)
  old = json.loads((tmp_path / 'preprocessor_config.json').read_text())
  (tmp_path / 'preprocessor_config.json').unlink()
  new = tmp_path / 'processor_config.json'
  new.write_text(json.dumps({'image_processor': old}))
  resolved = init_from.resolve(make_config(tmp_path))
  assert resolved.data.image_size == (21, 21)


def test_an_encoder_does_without_words_of_its_own(make_config):
  config = make_config(
    f'encoder={GOLDEN / "bert"},decoder={GOLDEN / "t5"}', 'vlm_2b.py:runlocal'
  )
  with pytest.raises(ConfigError, match='start from parts that agree'):
    init_from.resolve(config)
  config.init_from = f'encoder={GOLDEN / "bert"}'
  resolved = init_from.resolve(config)
  flat = tree_paths.flatten(pretrained.load(GOLDEN / 'bert').params)
  # A sentence encoder does not use its pooler.
  left_out = ('words/table/embedding', 'pooler/kernel', 'pooler/bias')
  wanted = {
    'encoder': tree_paths.unflatten(
      {k: v for k, v in flat.items() if k not in left_out}
    )
  }
  same(tree_paths.unflatten(init_from.load(resolved, wanted)), wanted)


def resolve_with(config, **values):
  """The config resolved after flags set fields, by their path with '__'."""
  flags = {path.replace('__', '.'): text for path, text in values.items()}
  overrides.override(config, list(flags.items()))
  return init_from.resolve(config, flags)


def test_a_flag_that_the_source_contradicts_is_refused(make_config):
  clip = f'image={GOLDEN / "clip"},text={GOLDEN / "clip"}'
  for flag, text, message in (
    (
      'data__image_size',
      '28',
      r'=28, but \(21, 21\) comes .*position_grid="\(3, 3\)"',
    ),
    ('model__image__depth', '3', 'depth=3, but 2 comes'),
    ('model__image__pooling', 'mean', "'mean', but 'first' comes"),
    # By the defaults that settings leave out.
    ('model__image__position_resize', 'x', "'x', but 'bicubic' comes"),
    ('model__text__block__norm', 'x', "'x', but 'layernorm' comes"),
  ):
    with pytest.raises(ConfigError, match=re.compile(message, re.DOTALL)):
      resolve_with(make_config(clip), **{flag: text})
  # What agrees, and what concerns training alone.
  config = resolve_with(
    make_config(clip), data__image_size='21', model__image__dropout='0.5'
  )
  assert config.model.image.dropout == 0.5
  assert init_from.resolve(config).data.image_size == (21, 21)


@pytest.mark.parametrize(
  ('source', 'flags'),
  [
    ('dinov2', {'data__image_size': '28'}),
    (
      'clip',
      {'data__image_size': '28', 'model__image__position_grid': '(3, 3)'},
    ),
  ],
)
def test_a_model_that_can_reads_images_of_the_flags_size(
  make_config, source, flags
):
  config = resolve_with(make_config(f'image={GOLDEN / source}'), **flags)
  assert config.data.image_size == 28
  published = pretrained.load(GOLDEN / source)
  module = models.build(
    {'name': 'dual_encoder', 'image': config.model.image.to_dict()}
    | {'text': config.model.text.to_dict(), 'embed_dim': 5},
    models.DataSizes(11, text_length=5),
  ).image
  params = published.params
  params = params.get('image', params.get('encoder'))
  image = np.ones((1, 28, 28, 3), np.float32)
  got = module.apply({'params': params}, image, train=False)
  assert np.isfinite(got.pooled).all()
