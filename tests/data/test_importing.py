"""Imports, from files to sources."""

import io
import json
import tarfile

import numpy as np
import pytest

from mmjax.data import importing, shapes_drawing, sources, tokenizers
from mmjax.errors import ConfigError

HALVES = {'train': 0.5, 'test': 0.5}


def _make_png(seed=0):
  rng = np.random.default_rng(seed)
  return shapes_drawing.encode_png(rng.integers(0, 256, (5, 7, 3), np.uint8))


def _write_tar(path, samples):
  """Samples: {key: (png, text, fields)}."""
  with tarfile.open(path, 'w') as tar:
    for key, (png, text, fields) in samples.items():
      files = {'png': png, 'txt': text, 'json': json.dumps(fields)}
      for ending, data in files.items():
        data = data if isinstance(data, bytes) else data.encode()
        member = tarfile.TarInfo(f'{key}.{ending}')
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))


def _write_styles(folder):
  """Two tars with the same 40 concepts."""
  for style in ('ink', 'oil'):
    samples = {
      f'{style}-{i}': (
        _make_png(i),
        f'thing {i}',
        {'concept': i, 'captions': {'en': f'thing {i}', 'de': f'Ding {i}'}},
      )
      for i in range(40)
    }
    _write_tar(folder / f'{style}.tar', samples)
  return str(folder / '*.tar')


def _write_jsonl(folder, rows, images=('a.png',)):
  for i, name in enumerate(images):
    (folder / name).write_bytes(_make_png(i))
  path = folder / 'rows.jsonl'
  path.write_text('\n'.join(json.dumps(row) for row in rows))
  return str(path)


def _import(format, input, data_dir, *, overwrite=False, **settings):
  return importing.import_data(
    format,
    input,
    importing.Settings(**{'name': 'mine', 'splits': HALVES, **settings}),
    data_dir=data_dir,
    overwrite=overwrite,
    progress=False,
  )


def _open(split, data_dir, **kwargs):
  return sources.open_source('mine', split, data_dir=data_dir, **kwargs)


def test_webdataset_keeps_groups_together(tmp_path):
  _import('webdataset', _write_styles(tmp_path), tmp_path, group_by='concept')
  records = {split: list(_open(split, tmp_path)) for split in ('train', 'test')}
  assert sum(map(len, records.values())) == 80
  concepts = {
    split: {row['metadata']['concept'] for row in rows}
    for split, rows in records.items()
  }
  assert concepts['train'].isdisjoint(concepts['test'])
  for rows in records.values():
    styles = [row['metadata']['source'] for row in rows]
    assert styles.count('ink') == styles.count('oil') > 10
  row = records['test'][0]
  concept = row['metadata']['concept']
  assert row['fields']['captions'] == [f'thing {concept}']
  assert row['fields']['image'] == _make_png(concept)
  assert row['id'] == f'{row["metadata"]["source"]}/{row["metadata"]["key"]}'


def test_where_selects_an_imported_field(tmp_path):
  _import('webdataset', _write_styles(tmp_path), tmp_path, group_by='concept')
  rows = _open('train', tmp_path, where={'source': 'ink'})
  assert {row['metadata']['source'] for row in rows} == {'ink'}


def test_splits_do_not_depend_on_other_records(tmp_path):
  _write_styles(tmp_path)
  one, both = tmp_path / 'one', tmp_path / 'both'
  files = f'{tmp_path}/oil.tar'
  _import('webdataset', files, one, group_by='concept')
  files += f',{tmp_path}/ink.tar'
  _import('webdataset', files, both, group_by='concept', language='de')
  ids = {row['id'] for row in _open('test', one)}
  assert ids < {row['id'] for row in _open('test', both)}
  assert _open('test', both)[0]['fields']['captions'][0].startswith('Ding ')


@pytest.mark.parametrize('format', ['jsonl', 'csv'])
def test_tables(tmp_path, format):
  rows = [
    {'image': f'{i}.png', 'caption': f'text {i}', 'place': f'p{i % 3}'}
    for i in range(7)
  ]
  path = _write_jsonl(tmp_path, rows, [row['image'] for row in rows])
  if format == 'csv':
    path = tmp_path / 'rows.csv'
    lines = [','.join(row.values()) for row in rows]
    path.write_text('\n'.join(['image,caption,place', *lines]))
  _import(format, str(path), tmp_path, splits={'some': 1.0})
  records = _open('some', tmp_path)
  assert len(records) == 7
  assert {row['fields']['captions'][0] for row in records} == {
    f'text {i}' for i in range(7)
  }
  assert {row['metadata']['file'] for row in records} == {
    row['image'] for row in rows
  }
  tokenizer = tokenizers.Tokenizer.load(records.folder / 'tokenizer.json')
  assert len(tokenizer.tokenize('text')) == 1


def test_rows_of_an_image_become_one_record(tmp_path):
  images = [f'{i}.png' for i in range(20)]
  rows = [
    {'image': image, 'caption': text, 'by': f'writer {n}', 'place': 'Bonn'}
    for n, text in enumerate(['a', 'b', 'a'])
    for image in images
  ]
  rows += [{'image': '3.png', 'question': 'red?', 'answer': 'no'}]
  _import('jsonl', _write_jsonl(tmp_path, rows, images), tmp_path)
  records = {
    record['id']: record
    for split in ('train', 'test')
    for record in _open(split, tmp_path)
  }
  assert sorted(records) == sorted(images)
  assert all(
    record['fields']['captions'] == ['a', 'b'] for record in records.values()
  )
  assert [q['question'] for q in records['3.png']['fields']['questions']] == [
    'red?'
  ]
  assert records['4.png']['metadata'] == {
    'by': ['writer 0', 'writer 1', 'writer 2'],
    'place': 'Bonn',
    'file': '4.png',
  }


def test_a_bad_row_of_an_image_does_not_take_the_others_along(tmp_path):
  rows = [{'image': 'a.png', 'caption': text} for text in ('x', '', 'y')]
  path = _write_jsonl(tmp_path, rows, ['a.png'])
  folder = _import(
    'jsonl', path, tmp_path, splits={'train': 1.0}, on_error='skip'
  )
  (record,) = _open('train', tmp_path)
  assert record['fields']['captions'] == ['x', 'y']
  assert 'line 2' in (folder / 'skipped.jsonl').read_text()


def test_an_image_of_two_groups(tmp_path):
  rows = [{'image': 'a.png', 'caption': 'x', 'by': name} for name in 'ab']
  path = _write_jsonl(tmp_path, rows, ['a.png'])
  with pytest.raises(ValueError, match=r"line 2: its by is 'b', .* is 'a'"):
    _import('jsonl', path, tmp_path, group_by='by')


@pytest.mark.parametrize(
  'row, message',
  [
    ({'image': 'none.png', 'caption': 'x'}, r'no image file .*none\.png'),
    ({'image': 'cut.png', 'caption': 'x'}, 'not a readable image'),
    ({'image': 'a.png', 'caption': ''}, 'caption is empty'),
    (
      {'image': 'a.png', 'caption': 'x', 'id': 'one'},
      "id 'one' is taken .*--columns=own_id=id",
    ),
  ],
)
def test_unreadable_records(tmp_path, row, message):
  good = {'image': 'a.png', 'caption': 'x', 'id': 'one'}
  path = _write_jsonl(tmp_path, [good, row], ['a.png'])
  (tmp_path / 'cut.png').write_bytes(_make_png()[:60])
  data_dir = tmp_path / 'data'
  splits = {'train': 1.0}
  with pytest.raises(ValueError, match=rf'rows\.jsonl, line 2: .*{message}'):
    _import('jsonl', path, data_dir, splits=splits)
  assert list(data_dir.iterdir()) == []
  folder = _import('jsonl', path, data_dir, splits=splits, on_error='skip')
  assert len(_open('train', data_dir)) == 1
  (line,) = (folder / 'skipped.jsonl').read_text().splitlines()
  assert json.loads(line)['where'] == 'rows.jsonl, line 2'


def test_grouping_by_a_missing_field(tmp_path):
  path = _write_jsonl(tmp_path, [{'image': 'a.png', 'caption': 'x'}])
  with pytest.raises(ValueError, match="no field 'concept' to group by among"):
    _import('jsonl', path, tmp_path, group_by='concept')


def test_nothing_left_to_import(tmp_path):
  path = _write_jsonl(tmp_path, [{'image': 'a.png'}, {'image': 'none.png'}])
  with pytest.raises(
    ValueError,
    match=r'no records to import; 2 were skipped, the last one, .*line 2',
  ):
    _import('jsonl', path, tmp_path, on_error='skip')
  (tmp_path / 'rows.jsonl').write_text('{\n')
  with pytest.raises(ValueError, match='no records to import; 1 were skipped'):
    _import('jsonl', path, tmp_path, on_error='skip')


def test_existing_names_need_overwrite(tmp_path):
  path = _write_jsonl(tmp_path, [{'image': 'a.png', 'caption': 'one'}])
  splits = {'train': 1.0}
  _import('jsonl', path, tmp_path, splits=splits)
  with pytest.raises(ConfigError, match="there is a data set 'mine'"):
    _import('jsonl', path, tmp_path, splits=splits)
  _write_jsonl(tmp_path, [{'image': 'a.png', 'caption': 'two'}])
  _import('jsonl', path, tmp_path, splits=splits, overwrite=True)
  assert _open('train', tmp_path)[0]['fields']['captions'] == ['two']


def test_a_named_tokenizer_is_kept(tmp_path):
  path = _write_jsonl(tmp_path, [{'image': 'a.png', 'caption': 'one'}])
  tokenizer_path = tmp_path / 'given.json'
  tokenizers.make_byte_tokenizer().save(tokenizer_path)
  folder = _import('jsonl', path, tmp_path, tokenizer=tokenizer_path)
  kept = tokenizers.Tokenizer.load(folder / 'tokenizer.json')
  assert kept == tokenizers.make_byte_tokenizer()


def test_wrong_arguments(tmp_path):
  with pytest.raises(ValueError, match="--format 'tsv' is unknown; use one of"):
    _import('tsv', 'x', tmp_path)
  with pytest.raises(ConfigError, match='no file matches'):
    _import('csv', f'{tmp_path}/*.csv', tmp_path)
  with pytest.raises(ValueError, match="name 'My-Set'"):
    _import('csv', 'x', tmp_path, name='My-Set')
  with pytest.raises(ValueError, match="on_error 'ignore'"):
    _import('csv', 'x', tmp_path, on_error='ignore')


def test_the_same_bytes_share_a_split(tmp_path, capsys):
  rows = [{'image': f'{i}.png', 'caption': f'text {i}'} for i in range(40)]
  path = _write_jsonl(tmp_path, rows, [row['image'] for row in rows])
  for i in range(0, 40, 2):
    (tmp_path / f'{i}.png').write_bytes(_make_png(7))
  settings = importing.Settings(name='mine', splits=HALVES)
  importing.import_data('jsonl', path, settings, data_dir=tmp_path)
  records = {
    split: {row['fields']['image'] for row in _open(split, tmp_path)}
    for split in HALVES
  }
  assert records['train'].isdisjoint(records['test'])
  # Image 7 is one of them.
  assert '21 records share 1 images' in capsys.readouterr().err


def test_a_skipped_record_can_always_be_listed(tmp_path):
  rows = [{'image': 'a.png', 'caption': text} for text in ('x', 'y \ud83d')]
  path = _write_jsonl(tmp_path, rows)
  folder = _import(
    'jsonl', path, tmp_path, splits={'train': 1.0}, on_error='skip'
  )
  (line,) = (folder / 'skipped.jsonl').read_text().splitlines()
  assert 'a lone surrogate' in json.loads(line)['reason']


@pytest.mark.parametrize('format', ['jsonl', 'webdataset'])
def test_a_field_of_splits_is_kept(tmp_path, capsys, format):
  names = ['train', 'test', 'val', 'test']
  fields = [{'caption': 'x', 'Split': name} for name in names]
  if format == 'jsonl':
    rows = [{'image': f'{i}.png', **row} for i, row in enumerate(fields)]
    path = _write_jsonl(tmp_path, rows, [row['image'] for row in rows])
  else:
    path = tmp_path / 'x.tar'
    _write_tar(
      path, {f'{i}': (_make_png(i), 'x', row) for i, row in enumerate(fields)}
    )
  settings = importing.Settings(name='mine')
  importing.import_data(format, str(path), settings, data_dir=tmp_path)
  test = [row['fields']['image'] for row in _open('test', tmp_path)]
  assert sorted(test) == sorted([_make_png(1), _make_png(3)])
  assert [row['fields']['image'] for row in _open('validation', tmp_path)] == [
    _make_png(2)
  ]
  assert 'splits are those that the input names' in capsys.readouterr().err


def test_unknown_words_for_splits_are_refused_beside_known_ones(tmp_path):
  rows = [{'caption': 'x', 'split': word} for word in ('train', 'Dev-Test')]
  rows = [{'image': f'{i}.png', **row} for i, row in enumerate(rows)]
  path = _write_jsonl(tmp_path, rows, [row['image'] for row in rows])
  with pytest.raises(
    ValueError,
    match=r"line 2 is of the split 'Dev-Test', .*--split_names=validation=Dev-",
  ):
    _import('jsonl', path, tmp_path, splits=None)
  names = {'dev-test': 'dev_test'}
  with pytest.raises(ValueError, match='leave one out'):
    _import('jsonl', path, tmp_path, split_names=names)
  _import('jsonl', path, tmp_path, splits=None, split_names=names)
  assert len(_open('dev_test', tmp_path)) == 1


def test_splits_that_files_are_named_after(tmp_path, capsys):
  for i, name in enumerate(['train', 'test', 'more']):
    (tmp_path / f'{i}.png').write_bytes(_make_png(i))
    (tmp_path / f'{name}.csv').write_text(f'image,caption\n{i}.png,x\n')
  settings = importing.Settings(name='mine')

  def run(input, settings=settings, **kwargs):
    importing.import_data('csv', input, settings, data_dir=tmp_path, **kwargs)
    return capsys.readouterr().err

  both = f'{tmp_path}/{{train,test}}.csv'
  assert 'splits are those that the input names' in run(both)
  assert [row['id'] for row in _open('test', tmp_path)] == ['1.png']
  with pytest.raises(
    ValueError, match=r"train\.csv, line 2 is of the split 'train', but more"
  ):
    run(f'{both},{tmp_path}/more.csv', overwrite=True)
  grouped = importing.Settings(name='mine', group_by='caption')
  with pytest.raises(ValueError, match='splits train, test, but --group_by'):
    run(both, grouped, overwrite=True)
  # Both rows name one image now.
  (tmp_path / 'test.csv').write_text('image,caption\n0.png,y\n')
  shared = run(both, overwrite=True)
  assert '2 share one with another split' in shared and 'own_id' not in shared
  (record,) = _open('test', tmp_path)
  assert record['fields']['captions'] == ['y']
  assert record['fields']['image'] == _make_png()
  dealt = importing.Settings(name='mine', splits={'some': 1.0})
  assert 'records: some 1' in run(both, dealt, overwrite=True)
  (tmp_path / 'x').mkdir()
  (tmp_path / 'test.csv').rename(tmp_path / 'x/test.csv')
  (tmp_path / 'x/0.png').write_bytes(_make_png())
  assert 'names one split only, test' in run(
    f'{tmp_path}/x/test.csv', overwrite=True
  )


@pytest.mark.parametrize(
  'files, hint',
  [
    # Skipping the only file leaves nothing.
    ({'a.csv': 'x,y\n'}, None),
    ({'a.csv': 'x,y\n', 'b.csv': 'image,caption\n'}, 'imports the rest'),
    ({'a.csv': 'image,caption\nnone.png,x\n'}, 'skips such records'),
  ],
)
def test_skipping_is_named_where_it_helps(tmp_path, files, hint):
  for name, text in files.items():
    (tmp_path / name).write_text(text)
  with pytest.raises(ValueError, match=r'^a\.csv') as caught:
    _import('csv', f'{tmp_path}/*.csv', tmp_path)
  assert ('--on_error=skip' in str(caught.value)) == (hint is not None)
  assert (hint or '') in str(caught.value)


def test_hints_about_samples_of_one_image(tmp_path, capsys):
  fields = {'captions': ['x']}
  _write_tar(
    tmp_path / 'a.tar', {key: (_make_png(), key, fields) for key in 'ab'}
  )
  rows = [{'image': 'a.png', 'caption': 'x', 'id': key} for key in 'ab']
  path = _write_jsonl(tmp_path, rows)
  settings = importing.Settings(name='mine', splits={'train': 1.0})
  hints = {}
  for format, input in ('webdataset', f'{tmp_path}/a.tar'), ('jsonl', path):
    importing.import_data(
      format, input, settings, data_dir=tmp_path / format, overwrite=True
    )
    hints[format] = capsys.readouterr().err
  assert 'one record per image' in hints['webdataset']
  assert 'own_id' not in hints['webdataset']
  assert '--columns=own_id=id merges the rows' in hints['jsonl']
