"""Of each family, no key of config.json goes unread without a word."""

import json
import pathlib
import shutil

import pytest

from mmjax.pretrained import configs, families, generation_settings, sections

GOLDEN = pathlib.Path(__file__).parent / 'golden'
FOLDERS = sorted(path.parent for path in GOLDEN.glob('*/model.safetensors'))


def read(folder):
  return json.loads((folder / 'config.json').read_text())


def check(config):
  sections.check(config, families.find(config).sections)


def parts(config):
  """Names of a config's parts, '' for the top level."""
  names = {name.partition(':')[0] for name in families.find(config).sections}
  return sorted(names)


def test_every_family_has_a_folder_here():
  kinds = {read(folder)['model_type'] for folder in FOLDERS}
  # One tower of two has the keys that it has in the whole.
  towers = {
    f'{kind}_{part}_model'
    for kind in ('clip', 'siglip')
    for part in ('text', 'vision')
  }
  # The smallest has more numbers than all others here: see
  # test_autoencoders.py, and tests/oracles of Janus.
  towers |= {'janus', 'janus_vqgan'}
  assert kinds | towers == set(families.FAMILIES)


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
  family = families.find(read(folder))
  for name, section in family.sections.items():
    part, _, kind = name.partition(':')
    for key, value in section.required_values().items():
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


# What transformers 4 wrote into every part of a config.
DUMPED = {
  '_name_or_path': '', 'add_cross_attention': False, 'architectures': None,
  'bad_words_ids': None, 'begin_suppress_tokens': None, 'bos_token_id': None,
  'chunk_size_feed_forward': 0, 'cross_attention_hidden_size': None,
  'decoder_start_token_id': None, 'diversity_penalty': 0.0,
  'do_sample': False, 'early_stopping': False,
  'encoder_no_repeat_ngram_size': 0, 'eos_token_id': None,
  'exponential_decay_length_penalty': None, 'finetuning_task': None,
  'forced_bos_token_id': None, 'forced_eos_token_id': None,
  'id2label': {'0': 'LABEL_0', '1': 'LABEL_1'}, 'is_encoder_decoder': False,
  'label2id': {'LABEL_0': 0, 'LABEL_1': 1}, 'length_penalty': 1.0,
  'max_length': 20, 'min_length': 0, 'no_repeat_ngram_size': 0,
  'num_beam_groups': 1, 'num_beams': 1, 'num_return_sequences': 1,
  'output_attentions': False, 'output_hidden_states': False,
  'output_scores': False, 'pad_token_id': None, 'prefix': None,
  'problem_type': None, 'pruned_heads': {}, 'remove_invalid_values': False,
  'repetition_penalty': 1.0, 'return_dict': True,
  'return_dict_in_generate': False, 'sep_token_id': None,
  'suppress_tokens': None, 'task_specific_params': None, 'temperature': 1.0,
  'tf_legacy_loss': False, 'tie_encoder_decoder': False,
  'tie_word_embeddings': True, 'tokenizer_class': None, 'top_k': 50,
  'top_p': 1.0, 'torch_dtype': None, 'torchscript': False,
  'transformers_version': '4.21.0.dev0', 'typical_p': 1.0,
  'use_bfloat16': False,
}  # fmt: skip


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda path: path.name)
def test_what_older_releases_wrote_everywhere_is_known(folder):
  config = read(folder)
  for part in parts(config):
    if part:
      config[part] = {**DUMPED, **config.get(part, {})}
  check({**DUMPED, **config})
  assert generation_settings.read({}, {'text_config': DUMPED})[0] == {
    'do_sample': False,
    'early_stopping': False,
    'diversity_penalty': 0.0,
    'encoder_no_repeat_ngram_size': 0,
    'length_penalty': 1.0,
    'min_length': 0,
    'no_repeat_ngram_size': 0,
    'num_beam_groups': 1,
    'num_beams': 1,
    'num_return_sequences': 1,
    'repetition_penalty': 1.0,
    'typical_p': 1.0,
  }


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
  family = families.find(config)
  config['text_config_dict'] = config['text_config']
  family.build_module(config)
  config['text_config_dict'] = {**config['text_config'], 'layer_norm_eps': 1e-3}
  with pytest.raises(ValueError, match='text_config_dict gives layer_norm_eps'):
    family.build_module(config)


def test_unknown_settings_of_rotary_positions_are_refused():
  given = {'rope_type': 'linear', 'factor': 2.0, 'beta_fast': 32}
  with pytest.raises(ValueError, match='of rope_type linear have beta_fast'):
    configs.rotary_settings({'rope_parameters': given})
