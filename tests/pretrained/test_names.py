"""Names that differ from the key table for known reasons load."""

import json
import re
import shutil
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

from mmjax import pretrained
from mmjax.ops import tree_paths
from mmjax.pretrained import checkpoint, families, names, tensors

GOLDEN = Path(__file__).parent / 'golden'
# By golden folder, its embedding and its output matrix.
HEADS = {
  'blip2_opt': (
    'language_model.model.decoder.embed_tokens.weight',
    'language_model.lm_head.weight',
  ),
  'gpt2': ('transformer.wte.weight', 'lm_head.weight'),
  'llama': ('model.embed_tokens.weight', 'lm_head.weight'),
  'llava': (
    'language_model.model.embed_tokens.weight',
    'language_model.lm_head.weight',
  ),
  'opt': ('model.decoder.embed_tokens.weight', 'lm_head.weight'),
  'paligemma': (
    'language_model.model.embed_tokens.weight',
    'language_model.lm_head.weight',
  ),
  'qwen2': ('model.embed_tokens.weight', 'lm_head.weight'),
  'qwen2_5_omni': ('model.embed_tokens.weight', 'lm_head.weight'),
  'qwen2_5_vl': ('model.embed_tokens.weight', 'lm_head.weight'),
  'qwen2_vl': ('model.embed_tokens.weight', 'lm_head.weight'),
  'mistral': ('model.embed_tokens.weight', 'lm_head.weight'),
  'qwen3': ('model.embed_tokens.weight', 'lm_head.weight'),
  't5': ('shared.weight', 'lm_head.weight'),
  'whisper': ('model.decoder.embed_tokens.weight', 'proj_out.weight'),
}


def variant(folder, name, change=lambda held: held, **config):
  """A golden folder with other tensors, and other values in its config."""
  shutil.copytree(GOLDEN / name, folder, dirs_exist_ok=True)
  held = dict(safetensors.numpy.load_file(folder / tensors.FILE))
  safetensors.numpy.save_file(change(held) or held, folder / tensors.FILE)
  path = folder / 'config.json'
  settings = json.loads(path.read_text())
  for field, value in config.items():
    if value is None:
      settings.pop(field, None)
    elif isinstance(value, dict):
      settings.setdefault(field, {}).update(value)
    else:
      settings[field] = value
  path.write_text(json.dumps(settings))
  return folder


def tie_tensors(folder, name, change):
  parts = json.loads((GOLDEN / name / 'config.json').read_text())
  nested = {'text_config': {'tie_word_embeddings': True}}
  nested = nested if 'text_config' in parts else {}
  return variant(folder, name, change, tie_word_embeddings=True, **nested)


def same(one, other):
  jax.tree.map(np.testing.assert_array_equal, one.params, other.params)


@pytest.mark.parametrize('name', HEADS)
def test_a_head_that_differs_is_used_and_saved(name, tmp_path):
  embedding, head = HEADS[name]
  expected = {}

  def change(held):
    rng = np.random.default_rng(0)
    held[head] = rng.normal(size=held[embedding].shape).astype(np.float32)
    expected.update(held)

  folder = tie_tensors(tmp_path / 'in', name, change)
  with pytest.warns(UserWarning, match=f'ties {head} to {embedding}'):
    model = pretrained.load(folder)
  kernel = tree_paths.flatten(model.params)['decoder/head/kernel']
  np.testing.assert_array_equal(kernel, expected[head].T)
  pretrained.save(model, tmp_path / 'out')
  saved = tensors.Tensors(tmp_path / 'out')
  assert saved.names == expected.keys()
  np.testing.assert_array_equal(saved.read(head), expected[head])
  with warnings.catch_warnings():
    # The tensors alone say so of a T5.
    warnings.simplefilter('ignore' if name == 't5' else 'error')
    same(pretrained.load(tmp_path / 'out'), model)


@pytest.mark.parametrize('name', ['blip2_t5', *HEADS])
@pytest.mark.parametrize('keep', ['both', 'head'])
def test_either_of_two_tied_tensors_may_be_there(name, keep, tmp_path):
  embedding, head = HEADS.get(
    name, ('language_model.shared.weight', 'language_model.lm_head.weight')
  )

  def change(held):
    held[head] = held.pop(embedding)
    if keep == 'both':
      held[embedding] = held[head]

  model = pretrained.load(tie_tensors(tmp_path, name, change))
  params = tree_paths.flatten(model.params)
  assert 'decoder/head/kernel' not in params
  source = tensors.Tensors(tmp_path)
  np.testing.assert_array_equal(
    params['decoder/words/table/embedding'], source.read(head)
  )


@pytest.mark.parametrize(
  ('name', 'first', 'second'),
  [
    (
      'bert_filler',
      'bert.embeddings.word_embeddings.weight',
      'cls.predictions.decoder.weight',
    ),
    ('bert_filler', 'cls.predictions.bias', 'cls.predictions.decoder.bias'),
    (
      'blip_captions',
      'text_decoder.bert.embeddings.word_embeddings.weight',
      'text_decoder.cls.predictions.decoder.weight',
    ),
    (
      'blip_answers',
      'text_decoder.cls.predictions.bias',
      'text_decoder.cls.predictions.decoder.bias',
    ),
    ('t5', 'shared.weight', 'decoder.embed_tokens.weight'),
    (
      'blip2_t5',
      'language_model.shared.weight',
      'language_model.encoder.embed_tokens.weight',
    ),
  ],
)
def test_what_is_one_parameter_here_has_to_be_equal(
  name, first, second, tmp_path
):
  folder = variant(tmp_path, name, lambda h: h.update({second: h[first]}))
  same(pretrained.load(folder), pretrained.load(GOLDEN / name))
  variant(tmp_path, name, lambda h: h.update({second: h[first] + 1}))
  with pytest.raises(ValueError, match=f'{first} and {second} differ'):
    pretrained.load(folder)


def test_a_file_without_duplicates_says_which_were_left_out(tmp_path):
  folder = tie_tensors(tmp_path, 'llama', lambda held: held)
  path = folder / tensors.FILE
  held = safetensors.numpy.load_file(path)
  embedding, head = HEADS['llama']
  held[head] = held.pop(embedding)
  safetensors.numpy.save_file(held, path, {'format': 'pt', embedding: head})
  source = tensors.Tensors(folder)
  assert embedding in source.names and source.stored_name(embedding) == head
  loaded = tree_paths.flatten(pretrained.load(folder).params)
  np.testing.assert_array_equal(
    loaded['decoder/words/table/embedding'], held[head]
  )
  # Also where the config does not tie them.
  settings = json.loads((folder / 'config.json').read_text())
  settings['tie_word_embeddings'] = False
  (folder / 'config.json').write_text(json.dumps(settings))
  loaded = tree_paths.flatten(pretrained.load(folder).params)
  np.testing.assert_array_equal(loaded['decoder/head/kernel'], held[head].T)


@pytest.mark.parametrize(
  ('name', 'prefix'),
  [
    ('audio_spectrogram_transformer', '-audio_spectrogram_transformer.'),
    ('bert', 'bert.'),
    ('bert_filler', '-bert.'),
    ('dinov2', 'dinov2.'),
    ('dinov2_with_registers', '-dinov2_with_registers.'),
    ('gpt2', '-transformer.'),
    ('llama', '-model.'),
    ('opt', '-model.'),
    ('qwen2', '-model.'),
    ('resnet', '-resnet.'),
    ('videomae', '-videomae.'),
    ('vit', '-vit.'),
    ('whisper', '-model.'),
    ('clip', 'clip.'),
    ('siglip', 'siglip.'),
    ('siglip2', 'siglip2.'),
    ('align', 'module.'),
    ('blip_captions', '_orig_mod.'),
    ('llava', 'module._orig_mod.'),
    ('t5', '_orig_mod.module.'),
    ('paligemma', '_fsdp_wrapped_module.'),
  ],
)
def test_prefixes_that_a_model_may_have_or_lack(name, prefix, tmp_path):
  """With the prefix, or, after a dash, without it."""

  def change(held):
    if prefix.startswith('-'):
      return {k.removeprefix(prefix[1:]): v for k, v in held.items()}
    return {prefix + k: v for k, v in held.items()}

  folder = variant(tmp_path, name, change)
  config, _, got = checkpoint.read_folder(folder)
  _, _, want = checkpoint.read_folder(GOLDEN / name)
  assert len(got.names) == len(want.names)
  table = names.name_patterns(families.find(config).rules(config))
  for tensor in filter(re.compile('|'.join(table)).fullmatch, want.names):
    np.testing.assert_array_equal(got.read(tensor), want.read(tensor))


@pytest.mark.parametrize(
  ('name', 'kind', 'others', 'gone'),
  [
    (
      'bert',
      'BertModel',
      ['cls.predictions.bias', 'cls.predictions.transform.LayerNorm.gamma'],
      r'cls\.',
    ),
    (
      'bert_filler',
      'BertForMaskedLM',
      ['bert.pooler.dense.bias', 'cls.seq_relationship.weight'],
      r'bert\.pooler|cls\.seq',
    ),
    ('vit', 'ViTModel', ['classifier.bias'], 'classifier'),
    ('vit', 'ViTForImageClassification', ['pooler.dense.bias'], 'pooler'),
    ('dinov2', 'Dinov2Model', ['classifier.bias'], 'classifier'),
    (
      'dinov2_with_registers',
      'Dinov2WithRegistersModel',
      ['classifier.bias'],
      'classifier',
    ),
    ('resnet', 'ResNetModel', ['classifier.1.bias'], 'classifier'),
    (
      'videomae',
      'VideoMAEModel',
      ['classifier.bias', 'mask_token', 'decoder.norm.bias'],
      'classifier|fc_norm|mask_token|decoder',
    ),
    (
      'audio_spectrogram_transformer',
      'ASTModel',
      ['classifier.dense.bias'],
      'classifier',
    ),
    ('t5', 'T5EncoderModel', ['lm_head.weight'], r'decoder|lm_head'),
  ],
)
def test_the_head_of_another_class_is_left_out(
  name, kind, others, gone, tmp_path
):
  added = dict.fromkeys(['other.weight', *others], np.ones(3, np.float32))
  held = {}

  def change(there):
    held.update(there | {k: v for k, v in added.items() if k not in there})
    return held

  folder = variant(tmp_path, name, change, architectures=[kind])
  with pytest.warns(UserWarning, match=f'that {kind}, the class in config'):
    _, _, source = checkpoint.read_folder(folder)
  left = {source.stored_name(name) for name in source.names}
  # What belongs to no class stays, to be refused.
  assert left == {k for k in held if not re.match(gone, k)}


def test_a_wrapped_part_and_no_class_in_the_config(tmp_path):
  def change(held):
    return {
      'bert.' + k.replace('encoder.', 'encoder._orig_mod.'): v
      for k, v in held.items()
    }

  folder = variant(tmp_path, 'bert', change, architectures=None)
  same(pretrained.load(folder), pretrained.load(GOLDEN / 'bert'))


def test_two_tensors_of_one_name(tmp_path):
  tensors.write(tmp_path, [('h.0', np.ones(2)), ('x.h.0', np.zeros(2))])
  source = names.RenamedTensors(tensors.Tensors(tmp_path))
  with pytest.raises(ValueError, match=r'h\.0 and x\.h\.0 both name x\.h\.0'):
    names.apply_aliases(source, (('(?=h)', 'x.'),))


def test_older_names_are_renamed(tmp_path):
  tensors.write(tmp_path, [('h.0', np.ones(2)), ('x.h.1', np.zeros(3))])
  aliases = (('(?=h)', 'x.'), (r'x\.', 'y.'))
  renamed = names.apply_aliases(
    names.RenamedTensors(tensors.Tensors(tmp_path)), aliases
  )
  assert renamed.names == {'y.h.0', 'y.h.1'}
  assert renamed.shape('y.h.1') == (3,)
  assert renamed.stored_name('y.h.1') == 'x.h.1'
  np.testing.assert_array_equal(renamed.read('y.h.0'), np.ones(2))
