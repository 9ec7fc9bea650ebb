"""CLIP and SigLIP: as transformers computed them, out again, and refused."""

import functools
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import PIL.Image
import pytest

from mmjax import pretrained
from mmjax.data import tokenizers
from mmjax.errors import ConfigError
from mmjax.pretrained import checkpoint, families, tensors
from mmjax.runs import weight_source

GOLDEN = Path(__file__).parent / 'golden'
TEXTS = ['a small red circle', 'cat', 'a large blue square ' * 5]
close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-5)


@pytest.fixture(scope='module', params=['clip', 'siglip'])
def golden(request):
  return GOLDEN / request.param


@pytest.fixture(scope='module')
def loaded(golden):
  return pretrained.load(golden)


def test_embeddings_are_those_of_transformers(golden, loaded, tmp_path):
  expected = np.load(golden / 'expected.npz')
  pixels = expected['pixels']
  path = tmp_path / 'flipped.png'
  PIL.Image.fromarray(pixels[:, ::-1]).save(path)
  close(loaded.encode_image([pixels, path]), expected['image'])
  close(loaded.encode_image(PIL.Image.fromarray(pixels)), expected['image'][:1])
  close(loaded.encode_text(TEXTS), expected['text'])
  close(loaded.encode_text(TEXTS[1]), expected['text'][1:2])


def test_what_is_saved_is_what_was_loaded(golden, loaded, tmp_path):
  pretrained.save(loaded, tmp_path)
  again = pretrained.load(tmp_path)
  assert again.config == loaded.config and again.files == loaded.files
  jax.tree.map(np.testing.assert_array_equal, again.params, loaded.params)
  there, here = tensors.Tensors(golden), tensors.Tensors(tmp_path)
  assert here.names == there.names
  for name in there.names:
    np.testing.assert_array_equal(here.read(name), there.read(name))


# Parameters of the published checkpoints.
_TEXT, _TEXT_LARGE = (512, 2048, 12, 8), (768, 3072, 12, 12)
_BASE, _LARGE = (768, 3072, 12, 12), (1024, 4096, 24, 16)
_SO400M, _GIANT = (1152, 4304, 27, 16), (1536, 6144, 40, 16)
SIZES = {
  'clip B/32': (_TEXT, (*_BASE, 224, 32), 512, 151_277_313),
  'clip B/16': (_TEXT, (*_BASE, 224, 16), 512, 149_620_737),
  'clip L/14': (_TEXT_LARGE, (*_LARGE, 224, 14), 768, 427_616_513),
  'clip L/14-336': (_TEXT_LARGE, (*_LARGE, 336, 14), 768, 427_944_193),
  'siglip B/16': (_BASE, (*_BASE, 224, 16), 0, 203_155_970),
  'siglip So400m/14-384': (_SO400M, (*_SO400M, 384, 14), 0, 877_960_498),
  'siglip 2 B/16-224': (_BASE, (*_BASE, 224, 16), 0, 375_187_970),
  'siglip 2 L/16-256': (_LARGE, (*_LARGE, 256, 16), 0, 881_526_786),
  'siglip 2 So400m/14-384': (_SO400M, (*_SO400M, 384, 14), 0, 1_136_008_498),
  'siglip 2 g/16-256': (_SO400M, (*_GIANT, 256, 16), 0, 1_871_393_906),
}
_FIELDS = (
  'hidden_size',
  'intermediate_size',
  'num_hidden_layers',
  'num_attention_heads',
  'image_size',
  'patch_size',
)


@pytest.mark.parametrize('name', SIZES)
def test_published_sizes(name):
  text, vision, width, number = SIZES[name]
  config = {
    'text_config': dict(zip(_FIELDS, text, strict=False)),
    'vision_config': dict(zip(_FIELDS, vision, strict=True)),
    'projection_dim': width,
  }
  if name.startswith('siglip 2'):
    config['text_config'] |= {'vocab_size': 256_000}
    config['text_config'] |= {'projection_size': vision[0]}
  family = families.find({'model_type': name.split()[0]})
  shapes = checkpoint.shapes(family.build_module(config), family.inputs(config))
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == number


def change_config(folder, section, **values):
  shutil.copytree(GOLDEN / 'clip', folder, dirs_exist_ok=True)
  path = folder / 'config.json'
  config = json.loads(path.read_text())
  (config[section] if section else config).update(values)
  path.write_text(json.dumps(config))
  return folder


@pytest.mark.parametrize(
  ('section', 'values', 'message'),
  [
    ('', {'model_type': 'clop'}, "model_type is 'clop'; mmjax knows"),
    ('text_config', {'hidden_act': 'mish'}, "hidden_act is 'mish'; mmjax"),
    ('vision_config', {'patch_size': [7, 7]}, r'patch_size is \[7, 7\]'),
    (
      'text_config',
      {'vocab_size': 10},
      r'token_embedding.weight is \[11, 12\]',
    ),
    ('vision_config', {'num_hidden_layers': 3}, r'layers\.2\..* is missing'),
    ('vision_config', {'num_hidden_layers': 1}, r'layers\.1\..* is left over'),
  ],
)
def test_what_does_not_fit_is_named(tmp_path, section, values, message):
  with pytest.raises(ValueError, match=message):
    pretrained.load(change_config(tmp_path, section, **values))


def test_no_folder_no_model(tmp_path):
  with pytest.raises(ConfigError, match=r'has no config.json'):
    pretrained.load(tmp_path)
  (tmp_path / 'checkpoint-5').mkdir()
  (tmp_path / 'checkpoint-5/config.json').touch()
  with pytest.raises(ConfigError, match=r'or run, here perhaps .*/checkp'):
    pretrained.load(tmp_path)


def test_padding_is_the_tokenizers(tmp_path):
  shutil.copytree(GOLDEN / 'siglip', tmp_path, dirs_exist_ok=True)
  before = pretrained.load(tmp_path).tokenize('cat')[0]
  assert before[0, -1] == 1
  for token in ('?', {'content': '?', 'lstrip': False}):
    path = tmp_path / 'tokenizer_config.json'
    path.write_text(json.dumps({'pad_token': token}))
    ids, mask = pretrained.load(tmp_path).tokenize('cat')
    assert ids[0, -1] == 2 and mask.tolist() == [[True] * 3 + [False] * 6]
    np.testing.assert_array_equal(ids[0, :3], before[0, :3])


def test_a_run_pads_as_the_published_model_does(tmp_path):
  folder = shutil.copytree(GOLDEN / 'siglip', tmp_path / 'siglip')
  path = folder / 'tokenizer.json'
  path.write_text(path.read_text().replace('"cat"', '"<pad>"'))
  (folder / 'tokenizer_config.json').write_text('{"pad_token": "</s>"}')
  ids, _ = pretrained.load(folder).tokenize('a red circle')
  given = weight_source.find(str(folder)).data
  own = tokenizers.Tokenizer.load(
    given['tokenizer'], lower_case=given['lower_case']
  )
  np.testing.assert_array_equal(own.encode('a red circle', 9)[0], ids[0])
  assert own.pad_id == ids[0, -1] == 1


def test_a_missing_tokenizer_is_told_when_it_is_needed(tmp_path):
  folder = change_config(tmp_path, '')
  (folder / 'tokenizer.json').unlink()
  loaded = pretrained.load(folder)
  with pytest.raises(ValueError, match=r'had no tokenizer.json'):
    loaded.encode_text('cat')


@pytest.mark.parametrize(
  ('end', 'counted'),
  [
    # The tokenizer's.
    (1, [5, 7, 7]),
    # In early files 2 stands for the highest id: of a cat, or of a square.
    (2, [4, 2, 5]),
    # As if "a" were an end that is typed, or "red".
    (3, [2, 6, 6]),
    (6, [3, 1, 1]),
  ],
)
def test_texts_of_clip_end_where_they_are_pooled(tmp_path, end, counted):
  path = change_config(tmp_path, 'text_config', eos_token_id=end)
  model = pretrained.load(path)
  # <s> a red cat </s>, and so on.
  _, mask = model.tokenize(['a red cat', 'cat </s> a', '</s> square a'])
  assert mask.sum(axis=1).tolist() == counted
