"""Of each family, no key of config.json goes unread without a word."""

import json
import pathlib
import shutil

import pytest

from mmjax.pretrained import checkpoint, configs, sections

GOLDEN = pathlib.Path(__file__).parent / 'golden'
FOLDERS = sorted(path.parent for path in GOLDEN.glob('*/model.safetensors'))


def read(folder):
  return json.loads((folder / 'config.json').read_text())


def check(config):
  sections.check(config, checkpoint.family_of(config).SECTIONS)


def parts(config):
  """Names of a config's parts, '' for the top level."""
  names = {
    name.partition(':')[0] for name in checkpoint.family_of(config).SECTIONS
  }
  return sorted(names)


def test_every_family_has_a_folder_here():
  kinds = {read(folder)['model_type'] for folder in FOLDERS}
  assert kinds == set(checkpoint.FAMILIES)


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda path: path.name)
def test_an_unknown_key_is_named_in_any_part(folder):
  check(read(folder))
  for part in parts(read(folder)):
    config = read(folder)
    inside = config.setdefault(part, {}) if part else config
    inside |= {'new_trick': 0.5, 'a_new_scale': None}
    where = f'{part}.' if part else ''
    message = f'does not know {where}a_new_scale, {where}new_trick; if'
    with pytest.raises(ValueError, match=message):
      check(config)


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda path: path.name)
def test_only_one_value_of_a_key_is_read(folder):
  family = checkpoint.family_of(read(folder))
  for name, section in family.SECTIONS.items():
    part, _, kind = name.partition(':')
    for key, value in section.all_only().items():
      config = read(folder)
      inside = config.setdefault(part, {}) if part else config
      if kind not in ('', inside.get('model_type')) or key == 'model_type':
        continue
      inside[key] = value
      check(config)
      inside[key] = 'other'
      with pytest.raises(
        ValueError, match=f"{key} is 'other'; mmjax reads onl"
      ):
        check(config)


def test_all_of_several_parts_are_named():
  config = read(GOLDEN / 'clip')
  config['one'] = config['text_config']['two'] = 3
  with pytest.raises(ValueError, match=r'does not know one, text_config\.two'):
    check(config)


def test_null_is_a_silent_config_unless_silence_means_true():
  config = read(GOLDEN / 'gpt2')
  check({**config, 'add_cross_attention': None, 'pruned_heads': None})
  with pytest.raises(ValueError, match='scale_attn_weights is None'):
    check({**config, 'scale_attn_weights': None})


def test_another_name_of_a_key_must_say_the_same():
  config = read(GOLDEN / 'whisper')
  check({**config, 'num_hidden_layers': config['encoder_layers']})
  with pytest.raises(ValueError, match='layers is 7, but encoder_layers is 2'):
    check({**config, 'num_hidden_layers': 7})


def test_a_second_text_config_must_say_the_same(tmp_path):
  folder = shutil.copytree(GOLDEN / 'clip', tmp_path / 'clip')
  config = read(folder)
  family = checkpoint.family_of(config)
  config['text_config_dict'] = config['text_config']
  family.module(config)
  config['text_config_dict'] = {**config['text_config'], 'layer_norm_eps': 1e-3}
  with pytest.raises(ValueError, match='text_config_dict gives layer_norm_eps'):
    family.module(config)


def test_unknown_settings_of_rotary_positions_are_refused():
  given = {'rope_type': 'linear', 'factor': 2.0, 'beta_fast': 32}
  with pytest.raises(ValueError, match='of rope_type linear have beta_fast'):
    configs.rotary({'rope_parameters': given})
