"""JSON files are read, and broken entries reported."""

import pytest

from mmjax.data import image_rows, json_files


def _read(path):
  return list(json_files.read([path], image_rows.Options()))


def test_jsonl_rows(tmp_path):
  path = tmp_path / 'pets.jsonl'
  path.write_text('{"id": 7, "image": "no.png", "caption": "x"}\n\n[1]\n{\n')
  good, wrong, broken = _read(path)
  assert good.id == '7' and good.group == 'no.png' and not good.is_part
  with pytest.raises(ValueError, match=r'no image file .*no\.png'):
    good.read_image()
  assert wrong.where == 'pets.jsonl, line 3'
  with pytest.raises(ValueError, match=r'not a JSON object, but \[1\]'):
    wrong.read_fields()
  assert broken.where == 'pets.jsonl, line 4'
  with pytest.raises(ValueError, match='not a JSON object'):
    broken.read_fields()


def test_a_list_of_objects(tmp_path):
  path = tmp_path / 'pets.json'
  path.write_text('[\n{"file_name": "1.png",\n"text": "a"},\n3]')
  first, second = _read(path)
  assert (first.id, first.where) == ('1.png', 'pets.json, entry 1')
  assert first.read_fields()['caption'] == 'a'
  with pytest.raises(ValueError, match='not a JSON object, but 3'):
    second.read_fields()


@pytest.mark.parametrize(
  'line, message',
  [
    ('{"caption": "a", "caption": "b"}', "the key 'caption' occurs twice"),
    ('{"caption": ' + '[' * 100_000 + '}', 'nested too deeply'),
    ('{"caption": "a", "image": null}', 'its image is missing'),
    ('{"caption": "a", "image": [""]}', 'its image is missing'),
    ('{"caption": "a", "image": [1, 2]}', 'is an array of numbers'),
    ('{"caption": "a", "image": {"path": null}}', "path, not {'path': None}"),
    ('{"caption": "a", "image": 3}', 'image should be a path, not 3'),
    ('{"caption": "a", "image": ["1", "2"]}', 'it has 2 images'),
    ('{"caption": "a", "image": "1\\u0000"}', 'has a null character'),
  ],
)
def test_wrong_rows(tmp_path, line, message):
  path = tmp_path / 'pets.jsonl'
  path.write_text(line)
  (raw,) = _read(path)
  with pytest.raises(ValueError, match=message):
    raw.read_fields()


def test_an_image_may_be_an_object_with_a_path(tmp_path):
  (tmp_path / 'dog.png').write_bytes(b'dog')
  path = tmp_path / 'pets.jsonl'
  path.write_text('{"image": {"path": "dog.png", "bytes": null}}\n')
  (raw,) = _read(path)
  assert (raw.id, raw.read_image()) == ('dog.png', b'dog')


def test_empty_image_files(tmp_path):
  (tmp_path / 'dog.png').write_bytes(b'')
  path = tmp_path / 'pets.jsonl'
  path.write_text('{"image": "dog.png"}\n')
  (empty,) = _read(path)
  with pytest.raises(ValueError, match='is empty'):
    empty.read_image()


def _read_texts(path, text):
  """Reads the caption of each row, or the reason why it can't be read."""
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  texts = []
  for raw in _read(path):
    try:
      texts.append(str(raw.read_fields()['caption']))
    except ValueError as error:
      texts.append(f'{raw.where}: {error}')
  return texts


@pytest.mark.parametrize(
  'text, messages',
  [
    (
      '[{"caption": "a", "n": 1, "n": 2},\n{"caption": "b"},]',
      ["entry 1: in the entry from line 1: the key 'n' occurs twice", 'b'],
    ),
    (
      b'[{"caption": "a"},\n {"caption": "gro\xdf"}, {"caption": "b"}]',
      ['a', 'entry 2: in the entry from line 2: byte 0xdf', 'b'],
    ),
    ('[{"caption": "a"},\n {"caption": }, 3]', ['a', 'line 2, column 14']),
    ('[{"caption": "a"}\n {"caption": "b"}]', ['a', 'at line 2, column 2']),
    ('[{"caption": "a"}', ['a', 'neither , nor ] at line 1, column 18']),
    ('[{"caption": "a"}]\n[{', ['a', 'more after the list, from line 1']),
    (
      '[{"caption": "a"}, {"x": {"n": 1, "n": 2}, }]',
      ['a', "'n' occurs twice; the rest is not read"],
    ),
    ('{\n "caption": "a"\n}\n{"caption":\n"b"}', ['a', 'b']),
    ('{"caption": "a"},\n{"caption": "b"},\n', ['a', 'b']),
    ('{"caption": "a"} 3\n{"caption": "b"}', ['line 1: not a JSON', 'b']),
    ('{\n"caption": "a"\n"n": 1\n}', ["',' delimiter at line 3, column 1"]),
    ('{"caption": "a"\n{"caption": "b"}', ['line 1: not a JSON object', 'b']),
    (
      '{"v": 1, "tags": ["x"], "data": [{"caption": "a"}, 3]}',
      ['a', "entry 2 of 'data': not a JSON object"],
    ),
    (
      '{"n": {"0": "1", "1": "2"}, "text": {"1": "b", "0": "a"}}',
      ['a', 'b'],
    ),
    ('{"3": {"image": "1", "text": "a"}}', ['a']),
    (
      '{"1.png": "a", "2.JPG": ["b"], "3.png": {"caption": "c"}}',
      ['a', "['b']", 'c'],
    ),
    ('{"image": ["1", "2"], "text": ["a", "b"]}', ['a', 'b']),
    (
      '{"columns": ["text"], "index": [0, 1], "data": [["a"], ["b", "c"]]}',
      ['a', 'entry 2: it is not a list of 1 values, one for each of'],
    ),
    ('{"image": ["1"], "caption": ["a"]}', ["['a']"]),
    (
      '{"images": [{}], "annotations": [{}]}',
      ["keys 'images', 'annotations', none of which"],
    ),
  ],
)
def test_faults_of_a_file_cost_as_little_as_they_can(tmp_path, text, messages):
  captions = _read_texts(tmp_path / 'pets.json', text)
  assert len(captions) == len(messages), captions
  for caption, message in zip(captions, messages, strict=True):
    assert message in caption
