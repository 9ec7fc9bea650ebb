"""BLIP: as transformers computed it, out again, and refused."""

import functools
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from mmjax import pretrained
from mmjax.pretrained import blip, checkpoint, tensors

GOLDEN = Path(__file__).parent / 'golden'
HEADS = ('captions', 'answers', 'matches')
TEXTS = ['a small red circle', 'cat']
close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-5)


@pytest.fixture(scope='module')
def open_model():
  @functools.cache
  def load(head):
    folder = GOLDEN / f'blip_{head}'
    expected = np.load(folder / 'expected.npz')
    pixels = expected['pixels']
    return pretrained.load(folder), [pixels, pixels[:, ::-1]], expected

  return load


def decode(loaded, tokens):
  return [loaded.tokenizer.decode(row.tolist()) for row in tokens]


def test_captions_are_those_of_transformers(open_model):
  loaded, images, expected = open_model('captions')
  want = decode(loaded, expected['captions'])
  assert len(set(want)) == 2
  assert loaded.caption(images, max_new_tokens=6) == want
  assert loaded.caption(images[1], max_new_tokens=6) == want[1:]
  want = decode(loaded, expected['prompted'])
  assert loaded.caption(images, 'a small', max_new_tokens=6) == want
  with pytest.raises(ValueError, match=r'ConditionalGeneration.*not answer'):
    loaded.answer(images, TEXTS)


def test_answers_are_those_of_transformers(open_model):
  loaded, images, expected = open_model('answers')
  want = [decode(loaded, expected[f'answer{i}'])[0] for i in range(2)]
  assert loaded.answer(images, TEXTS, max_new_tokens=6) == want
  assert loaded.answer(images[1], TEXTS[1], max_new_tokens=6) == want[1:]
  with pytest.raises(ValueError, match='1 images and 2 texts make no pairs'):
    loaded.answer(images[0], TEXTS)


def test_matches_are_those_of_transformers(open_model):
  loaded, images, expected = open_model('matches')
  close(loaded.match(images, TEXTS), expected['matched'])
  close(loaded.match(images[1], TEXTS[1]), expected['matched'][1:])
  similarity = loaded.encode_image(images) @ loaded.encode_text(TEXTS).T
  close(similarity, expected['similarity'])
  with pytest.raises(ValueError, match='does not caption'):
    loaded.caption(images)


@pytest.mark.parametrize('head', HEADS)
def test_what_is_saved_is_what_was_loaded(open_model, head, tmp_path):
  loaded, _, _ = open_model(head)
  pretrained.save(loaded, tmp_path)
  again = pretrained.load(tmp_path)
  assert again.config == loaded.config and again.files == loaded.files
  there, here = (
    tensors.Tensors(GOLDEN / f'blip_{head}'),
    tensors.Tensors(tmp_path),
  )
  assert here.names == there.names
  for name in there.names:
    np.testing.assert_array_equal(here.read(name), there.read(name))


_TEXT = {'num_attention_heads': 12}
_LARGE = {
  'hidden_size': 1024,
  'intermediate_size': 4096,
  'num_hidden_layers': 24,
  'num_attention_heads': 16,
}
# Parameters of the published checkpoints; files may hold a tied matrix twice.
SIZES = {
  'captioning base': ('BlipForConditionalGeneration', {}, 223_971_644),
  'captioning large': ('BlipForConditionalGeneration', _LARGE, 446_290_492),
  'vqa base': ('BlipForQuestionAnswering', {}, 361_230_140),
  'itm base': ('BlipForImageTextRetrieval', {}, 223_744_258),
  'itm large': ('BlipForImageTextRetrieval', _LARGE, 446_128_642),
}


@pytest.mark.parametrize('name', SIZES)
def test_published_sizes(name):
  architecture, vision, number = SIZES[name]
  config = {
    'architectures': [architecture],
    'text_config': _TEXT,
    'vision_config': vision,
  }
  shapes = checkpoint.shapes(blip.module(config), blip.inputs(config))
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == number


def change_config(folder, section, **values):
  shutil.copytree(GOLDEN / 'blip_captions', folder, dirs_exist_ok=True)
  path = folder / 'config.json'
  config = json.loads(path.read_text())
  (config[section] if section else config).update(values)
  path.write_text(json.dumps(config))
  return folder


@pytest.mark.parametrize(
  ('section', 'values', 'message'),
  [
    ('', {'architectures': ['BlipModel']}, r"is \['BlipModel'\]; of"),
    ('text_config', {'is_decoder': False}, 'text_config.is_decoder is False'),
    ('text_config', {'hidden_act': 'mish'}, "hidden_act is 'mish'"),
    ('vision_config', {'patch_size': 5}, 'patch_embedding.weight is'),
  ],
)
def test_what_does_not_fit_is_named(tmp_path, section, values, message):
  with pytest.raises(ValueError, match=message):
    pretrained.load(change_config(tmp_path, section, **values))


def test_second_names_of_tied_tensors_are_known(open_model, tmp_path):
  folder = change_config(tmp_path, '')
  source = tensors.Tensors(folder)
  held = {name: source.read(name) for name in source.names}
  theirs = 'text_decoder.cls.predictions'
  held[f'{theirs}.decoder.bias'] = held[f'{theirs}.bias']
  held[f'{theirs}.decoder.weight'] = held[
    'text_decoder.bert.embeddings.word_embeddings.weight'
  ]
  tensors.write(folder, held.items())
  loaded, want = pretrained.load(folder), open_model('captions')[0]
  jax.tree.map(np.testing.assert_array_equal, loaded.params, want.params)
