"""The prepared shapes data set."""

import pytest

from mmjax.data import builders, shapes, shapes_captions, sources, tokenizers
from mmjax.data import shapes_scenes as scenes

TINY = {'train': 61, 'validation': 17, 'test': 19, 'compositional': 13}


def _prepare(data_dir, seed=0):
  config = shapes.ShapesConfig(name='tiny', seed=seed, **TINY)
  return builders.build(
    lambda folder: shapes.Shapes(data_dir=folder, config=config),
    data_dir,
    progress=False,
  )


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp('data')
  _prepare(folder)
  return folder


def _read_records(data_dir, split):
  return list(sources.open_source('shapes/tiny', split, data_dir=data_dir))


def _read_scenes(data_dir, split):
  return [
    tuple(scenes.Object(**thing) for thing in record['metadata']['objects'])
    for record in _read_records(data_dir, split)
  ]


def test_splits_have_their_sizes(data_dir):
  for split, count in TINY.items():
    rows = _read_records(data_dir, split)
    assert len(rows) == count == len({row['id'] for row in rows})


def test_records_are_complete(data_dir):
  for row in _read_records(data_dir, 'test'):
    assert row['fields']['image'].startswith(b'\x89PNG')
    assert len(row['fields']['captions']) == 4
    assert len(row['fields']['questions']) == 8
    objects = row['metadata']['objects']
    assert row['metadata']['num_objects'] == len(objects)
    for caption in row['fields']['captions']:
      parsed = shapes_captions.parse_caption(caption)
      assert [thing._asdict() for thing in parsed] == objects


def test_no_scene_is_in_two_splits(data_dir):
  by_split = {split: set(_read_scenes(data_dir, split)) for split in TINY}
  assert sum(map(len, by_split.values())) == len(set.union(*by_split.values()))
  for split in ('validation', 'test', 'compositional'):
    assert len(by_split[split]) == TINY[split]


def test_held_out_pairs_are_in_the_compositional_split_alone(data_dir):
  for split in TINY:
    for scene in _read_scenes(data_dir, split):
      held_out = any(map(scenes.is_held_out, scene))
      assert held_out == (split == 'compositional')


def test_the_tokenizer_knows_every_word(data_dir):
  source = sources.open_source('shapes/tiny', 'test', data_dir=data_dir)
  tokenizer = tokenizers.Tokenizer.load(source.folder / 'tokenizer.json')
  assert tokenizer.vocab_size <= 512
  for row in source:
    for caption in row['fields']['captions']:
      ids, _ = tokenizer.encode(caption, 61)
      assert tokenizer.decode(ids) == caption


def test_one_seed_gives_the_same_files(data_dir, tmp_path):
  again = _prepare(tmp_path)
  for path in sorted((data_dir / 'shapes' / 'tiny' / '2.0.0').iterdir()):
    if 'array_record' not in path.name and path.name != 'dataset_info.json':
      assert (again / path.name).read_bytes() == path.read_bytes(), path.name
  for split in TINY:
    assert _read_records(tmp_path, split) == _read_records(data_dir, split)


def test_another_seed_gives_other_scenes(data_dir, tmp_path):
  _prepare(tmp_path, seed=1)
  assert _read_scenes(tmp_path, 'test') != _read_scenes(data_dir, 'test')


def test_published_configurations():
  full, small = shapes.Shapes.BUILDER_CONFIGS
  assert (full.train, full.test) == (40_000, 1_000)
  assert (small.train, small.test) == (4_000, 200)
