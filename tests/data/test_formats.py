"""A small example of each format, from a file to fields."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmjax.data import formats, image_rows


def _write_json(path, value):
  path.write_text(json.dumps(value))
  return path


def _read(format, *paths, **options):
  read = formats.FORMATS[format].import_reader()
  return list(read(paths, image_rows.Options(**options)))


def _list_reasons(raws):
  reasons = []
  for raw in raws:
    try:
      raw.read_fields()
    except ValueError as error:
      reasons.append(str(error))
  return reasons


COCO = {
  'images': [{'id': 7, 'file_name': 'seven.jpg'}],
  'annotations': [
    {'image_id': 7, 'caption': 'a'},
    {'image_id': '7', 'caption': 'b'},
    {'image_id': 7.0, 'caption': 'b'},
    {'image_id': 8, 'caption': 'c'},
    {'image_id': 7},
    3,
  ],
}


def test_coco(tmp_path):
  path = _write_json(tmp_path / 'c.json', COCO)
  first, second, third, *bad = _read('coco', path)
  assert first.id == second.id == third.id == 'seven.jpg'
  assert first.read_fields() == {
    'caption': 'a',
    'image_id': 7,
    'file': 'seven.jpg',
  }
  unknown, none, odd = _list_reasons(bad)
  assert unknown == 'no image of c.json has the id 8, which is its image_id'
  assert none == "it has no 'caption'"
  assert odd == "it should be an object with 'image_id', not 3"


def test_karpathy(tmp_path):
  entry = {
    'filepath': 'val2014',
    'filename': 'a.jpg',
    'split': 'restval',
    'sentences': [{'raw': 'a'}, {'raw': 'b'}],
  }
  path = _write_json(
    tmp_path / 'k.json', {'images': [entry, {**entry, 'split': 'val'}]}
  )
  first, second = _read('karpathy', path)
  assert first.id == 'val2014/a.jpg'
  assert first.read_fields()['captions'] == ['a', 'b']
  assert (first.split, second.split) == ('train', 'validation')


def test_vqa(tmp_path):
  asked = {'image_id': 7, 'question': 'why?'}
  questions = [{**asked, 'question_id': i} for i in (1, 2, 3)] + [None]
  answers = [{'answer': 'so', 'answer_id': i} for i in range(3)]
  annotation = {'question_id': 1, 'answers': answers, 'answer_type': 'other'}
  first = {'questions': questions, 'data_subtype': 'val2014'}
  other = annotation | {'question_id': 3, 'image_id': 8}
  second = {'annotations': [annotation | {'image_id': '7'}, other]}
  (tmp_path / 'val2014').mkdir()
  image = 'val2014/COCO_val2014_000000000007.jpg'
  (tmp_path / image).write_bytes(b'x')
  paths = (
    _write_json(tmp_path / 'q.json', first),
    _write_json(tmp_path / 'a.json', second),
  )
  raw, *bad = _read('vqa', *paths)
  assert raw.id == image
  assert raw.read_fields()['answers'] == answers
  assert _list_reasons(bad) == [
    'no annotation has its question_id, 2',
    'its image_id is 7, but that of its annotation is 8; take both files from '
    'one release',
    "it should be an object with 'question_id', not null",
  ]
  with pytest.raises(ValueError, match=r'there are no annotations in q\.json'):
    _read('vqa', paths[0])
  with pytest.raises(ValueError, match=r'there are no questions in a\.json'):
    _read('vqa', paths[1])


def test_questions_of_visual_genome_and_gqa(tmp_path):
  (tmp_path / 'VG_100K_2').mkdir()
  (tmp_path / 'VG_100K_2/5.jpg').write_bytes(b'x')
  qas = [{'question': 'why?', 'answer': 'so'}, {'question': 'who?'}]
  path = _write_json(tmp_path / 'v.json', [{'id': 5, 'qas': qas}, {'id': 6}])
  raw, *bad = _read('visual_genome', path)
  assert raw.id == 'VG_100K_2/5.jpg' and raw.read_fields()['answer'] == 'so'
  assert _list_reasons(bad) == ["it has no 'answer'", "it has no 'qas'"]
  path = _write_json(
    tmp_path / 'v.json', [{'id': None, 'qas': qas[:1]}, {'qas': 3}]
  )
  assert _list_reasons(_read('visual_genome', path)) == [
    "its 'id' should be a number or text, not null",
    "its 'qas' should be a list, not 3",
  ]
  entry = {'imageId': '5', 'question': 'why?', 'answer': 'so'}
  entry['types'] = {'structural': 'query'}
  path = _write_json(tmp_path / 'g.json', {'1': entry, '2': {}})
  raw, *bad = _read('gqa', path)
  assert raw.id == '5.jpg' and raw.read_fields()['type'] == 'query'
  assert _list_reasons(bad) == ["it has no 'imageId'"]


@pytest.mark.parametrize('lines', [True, False])
def test_conversations(tmp_path, lines):
  llava = {
    'id': '1',
    'image': 'a.jpg',
    'split': 'test',
    'conversations': [
      {'from': 'human', 'value': '<image>\n<video>Why?'},
      {'from': 'gpt', 'value': 'So.'},
      {'from': 'human', 'value': 'And?'},
    ],
  }
  parts = [{'type': 'image'}, {'type': 'text', 'text': 'Why?'}]
  sharegpt = {
    'images': ['a.jpg'],
    'messages': [
      {'role': 'system', 'content': 'Be brief.'},
      {'role': 'user', 'content': parts},
      {'role': 'assistant', 'content': 'So.'},
    ],
  }
  unanswered = {'conversations': llava['conversations'][:1]}
  missing = {**llava, 'image': None}
  asked = {'role': 'user', 'content': 'Why?'}
  answer = sharegpt['messages'][-1:]
  text = {'images': [], 'messages': [asked, *answer]}
  part = {'type': 'image_url', 'image_url': {'url': 'file://b.jpg'}}
  inside = {'messages': [{**asked, 'content': [part, *parts[1:]]}, *answer]}
  pairs = [{'user': 'Why?', 'assistant': 'So.', 'source': 'x'}] * 2
  cauldron = {'images': ['a.jpg'], 'texts': pairs}
  pair = {'image': 'a.jpg', 'texts': pairs[0]}
  rows = [
    llava,
    sharegpt,
    cauldron,
    pair,
    unanswered,
    {},
    missing,
    text,
    inside,
  ]
  path = _write_json(tmp_path / 'c.json', rows)
  if lines:
    path.write_text('\n'.join(map(json.dumps, rows)))
  *good, unanswered, empty, missing, text, inside = _read('conversations', path)
  assert good[0].read_fields()['split'] == 'test'
  for raw in good:
    assert raw.id == 'a.jpg'
    fields = raw.read_fields()
    assert (fields['question'], fields['answer']) == ('Why?', 'So.')
  assert 'no answer follows' in _list_reasons([unanswered])[0]
  assert 'neither `conversations` nor' in _list_reasons([empty])[0]
  assert 'it names no image' in _list_reasons([missing])[0]
  assert text.read_fields()['answer'] == 'So.' and text.read_image() == b''
  assert inside.id == 'b.jpg' and inside.read_fields()['question'] == 'Why?'


def test_pairs_of_a_user_and_an_assistant_in_parquet(tmp_path):
  pairs = [{'user': 'Why?', 'assistant': 'So.', 'source': 'x'}] * 2
  table = {'images': [[{'bytes': b'a', 'path': None}]], 'texts': [pairs]}
  pq.write_table(pa.table(table), tmp_path / 'x.parquet')
  (raw,) = _read('parquet', tmp_path / 'x.parquet')
  fields = raw.read_fields()
  assert (fields['question'], fields['answer']) == ('Why?', 'So.')
  assert 'caption' not in fields and raw.read_image() == b'a'


def test_parquet(tmp_path):
  images = [{'bytes': b'a', 'path': 'a.png'}, {'bytes': b'b', 'path': None}]
  features = {'label': {'_type': 'ClassLabel', 'names': ['cat', 'dog']}}
  meta = json.dumps({'info': {'features': features}})
  columns = {'image': images, 'text': ['x', None], 'label': [1, 0]}
  columns['mask'] = [b'1', b'2']
  table = pa.table(columns).replace_schema_metadata({'huggingface': meta})
  path = tmp_path / 'zoo.parquet'
  pq.write_table(table, path, row_group_size=1)
  first, second = _read('parquet', path)
  assert (first.read_image(), second.read_image()) == (b'a', b'b')
  assert first.id != second.id
  fields = first.read_fields()
  assert fields == {'caption': 'x', 'label': 'dog', 'file': first.id}
  path.write_bytes(path.read_bytes()[:-9])
  (bad,) = _read('parquet', path)
  assert 'not readable as Parquet' in _list_reasons([bad])[0]


@pytest.mark.parametrize('format', formats.FORMATS)
def test_junk_is_a_broken_record_of_every_format(tmp_path, format):
  if format == 'imagefolder':
    path = tmp_path
    (path / 'metadata.jsonl').write_bytes(b'\x00\xff{[')
  else:
    path = tmp_path / 'junk'
    path.write_bytes(b'\x00\xff{[')
  raws = _read(format, path)
  assert raws and len(_list_reasons(raws)) == len(raws)


@pytest.mark.parametrize('format', formats.FORMATS)
def test_pointers_of_git_are_named(tmp_path, format):
  text = 'version https://git-lfs.github.com/spec/v1\noid sha256:5\nsize 7\n'
  path = tmp_path / 'x'
  path.write_text(text)
  if formats.FORMATS[format].endings is None:
    path = tmp_path
    (path / 'metadata.csv').write_text(text)
  (reason,) = _list_reasons(_read(format, path))
  assert 'is a pointer of Git LFS, not the file itself; run git' in reason


def test_images_are_in_the_folder_of_the_option(tmp_path):
  (tmp_path / 'photos').mkdir()
  (tmp_path / 'photos/seven.jpg').write_bytes(b'seven')
  path = _write_json(tmp_path / 'c.json', COCO)
  raw, *_ = _read('coco', path)
  with pytest.raises(ValueError, match=r'seven\.jpg; --images names another'):
    raw.read_image()
  raw, *_ = _read('coco', path, images=tmp_path / 'photos')
  assert raw.read_image() == b'seven'


def test_files_of_one_name_get_different_ids(tmp_path):
  paths = []
  for name in 'ab':
    (tmp_path / name).mkdir()
    paths.append(tmp_path / name / 'c.parquet')
    image = {'bytes': name.encode(), 'path': None}
    pq.write_table(pa.table({'image': [image], 'text': [name]}), paths[-1])
    (tmp_path / name / '0.jpg').write_bytes(name.encode())
    (tmp_path / name / 'metadata.csv').write_text(
      f'file_name,text\n0.jpg,{name}'
    )
  for raws in _read('parquet', *paths), _read('imagefolder', tmp_path):
    assert len({raw.id for raw in raws}) == 2
    for raw in raws:
      assert raw.read_fields()['caption'] == raw.read_image().decode()


def test_ids_that_repeat_are_refused(tmp_path):
  images = [*COCO['images'], {'id': 7, 'file_name': 'other.jpg'}]
  path = _write_json(tmp_path / 'c.json', {**COCO, 'images': images})
  reason = _list_reasons(_read('coco', path))[0]
  assert 'have the id 7: seven.jpg and other.jpg' in reason
  asked = {'questions': [{'image_id': 1, 'question_id': 1, 'question': 'a'}]}
  answer = {'question_id': 1, 'multiple_choice_answer': 'yes'}
  answers = {
    'annotations': [answer, {**answer, 'multiple_choice_answer': 'no'}]
  }
  paths = (
    _write_json(tmp_path / 'q.json', asked),
    _write_json(tmp_path / 'a.json', answers),
  )
  (reason,) = _list_reasons(_read('vqa', *paths))
  assert 'question_id 1 has two annotations' in reason
