"""Names of drawings in pairs of languages, and their translation by rules."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import debian_data, name_translation
from mmjax.data import splitting

NAMES = {
  'ant': {'es': 'Una hormiga.', 'ast': 'Una formiga.', 'pt': 'Uma formiga.'},
  # Its Spanish name is that of another drawing.
  'ant2': {'es': 'Una hormiga.', 'pt': 'Uma formiguinha.', 'sr': 'Мрав.'},
  'bear': {'es': 'Un oso.', 'pt': 'Um urso.', 'fr': 'Un ours.'},
  'long': {'es': 'Un ' + 'muy ' * 10 + 'grande.', 'pt': 'Um grande.'},
}


@pytest.fixture
def root(tmp_path):
  folder = tmp_path / 'usr/share/tuxpaint/stamps/animals'
  folder.mkdir(parents=True)
  for name, texts in NAMES.items():
    lines = [name, *(f'{key}.utf8={text}' for key, text in texts.items())]
    (folder / f'{name}.txt').write_text('\n'.join(lines), 'utf-8')
    # Wide, and of a color of its own.
    shade = len(name) * np.ones((3, 9, 3), np.uint8)
    Image.fromarray(shade).save(folder / f'{name}.png')
  return tmp_path


@pytest.mark.parametrize('split', ['train', 'test'])
def test_pairs_are_of_one_group_and_drawings_in_one_split(
  root, split, monkeypatch
):
  keys = []

  def assign(key, splits):
    keys.append(key)
    return split

  monkeypatch.setattr(splitting, 'assign', assign)
  rows = list(debian_data.read_names(root))
  ant, twin, bear, _ = keys
  assert ant == twin != bear
  found = {(row['pair'], row['source'], row['target']) for row in rows}
  assert ('es pt', '<pt> Un oso.', 'Um urso.') in found
  assert ('pt es', '<es> Um urso.', 'Un oso.') in found
  assert not any('sr' in pair or 'fr' in pair for pair, *_ in found)
  assert not any('grande' in source for _, source, _ in found)
  unseen = {row['pair'] for row in rows if row['split'] == 'unseen'}
  assert unseen == (set() if split == 'train' else {'ast pt'})
  assert ('ast pt' in {pair for pair, *_ in found}) == (split == 'test')
  assert len({row['id'] for row in rows}) == len(rows)


def test_drawings_are_small_copies_beside_the_table(root, tmp_path):
  rows = list(debian_data.read_names(root))
  copied = debian_data.write_small_images(rows, root, tmp_path / 'names_images')
  for row, original in zip(copied, rows, strict=True):
    assert {**row, 'image': original['image']} == original
    inputs = name_translation.make_inputs(['source', 'image'], [row], tmp_path)
    assert inputs['source'] == [original['source']]
    pixels = np.asarray(Image.open(inputs['image'][0]))
    assert pixels.shape == (64, 64, 3)
    name = original['image'].rpartition('/')[2].removesuffix('.png')
    assert np.all(pixels[28:36, 4:60] == len(name))
  assert len({row['image'] for row in copied}) == 3
  assert 'image' not in name_translation.make_inputs(['source'], [row], root)


def test_rules_translate_by_the_rows_of_training(tmp_path):
  rows = [
    ('es pt', 'train', '<pt> Un oso.', 'Um urso.'),
    ('es pt', 'train', '<pt> Una osa.', 'Uma ursa.'),
    ('es pt', 'train', '<pt> Un oso pardo.', 'Um urso.'),
    ('es pt', 'test', '<pt> Una osa parda.', 'Uma ursa parda.'),
    ('ast pt', 'unseen', '<pt> Un osu.', 'Um urso.'),
  ]
  keys = ('pair', 'split', 'source', 'target')
  lines = [json.dumps(dict(zip(keys, row, strict=True))) for row in rows]
  table = tmp_path / 'names.jsonl'
  table.write_text('\n'.join(lines), 'utf-8')
  (pair, train, test), (_, others, unseen) = name_translation.read(table)
  assert (pair, len(train), len(test)) == ('es pt', 3, 1)
  assert others == train and len(unseen) == 1
  assert name_translation.copy(train, test) == ['Una osa parda.']
  assert name_translation.find_nearest(train, test) == ['Uma ursa.']
  assert name_translation.repeat_commonest(train, test) == ['Um urso.']
