"""Reads the annotation files of published data sets.

COCO's captions, VQA v2's questions with their annotations, Karpathy's splits,
Visual Genome's and GQA's questions, and conversations as LLaVA and ShareGPT
write them, of which the first question and its answer are read. Images are
files in the folder of the annotations, or in that of `--images`.
"""

import functools
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mmjax.data import image_rows, json_files, raw_records, split_names

Reader = Callable[
  [Sequence[pathlib.Path], image_rows.Options],
  Iterator[raw_records.RawRecord],
]
# What people call a row, and what makes its fields by our names and its split;
# that may raise for a row that is not as expected.
_Rows = Iterator[
  tuple[str, Callable[[], tuple[raw_records.Fields, str | None]]]
]
_UNEXPECTED = (LookupError, TypeError, AttributeError, ArithmeticError)

_PLACEHOLDER = re.compile(r'\s*<image>\s*')
_ASKS = ('human', 'user')
_ANSWERS = ('gpt', 'assistant', 'model')


def _reader(rows_of: Callable[[Any, str, pathlib.Path], _Rows]) -> Reader:
  """A reader of the rows that a function of (value, file, folder) yields."""

  def read(paths, options):
    rows = image_rows.ImageRows(options)
    for path in paths:
      folder = options.images or path.parent
      try:
        value = json_files.load(path, options.encoding)
        found = enumerate(rows_of(value, path.name, folder), 1)
        for number, (where, make) in found:
          where, name = f'{path.name}: {where}', f'{path.stem}-{number}'
          try:
            fields, split = make()
          except _UNEXPECTED as error:
            yield raw_records.broken(name, where, _unexpected(error))
          else:
            yield rows.record(
              path.parent, where, name, fields, file=path, split=split
            )
      except (ValueError, OSError) as error:
        yield raw_records.broken(path.name, path.name, str(error))

  return read


def _unexpected(error: Exception) -> str:
  if isinstance(error, KeyError):
    return f'it has no {error}'
  return f'it is not as expected: {error!r:.200}'


def _coco(value: Any, file: str, folder: pathlib.Path) -> _Rows:
  _expect(value, file, 'images', 'annotations')
  names = {}
  for image in value['images']:
    if not isinstance(image, dict) or 'file_name' not in image:
      continue
    number, name = image.get('id'), image['file_name']
    if isinstance(number, int | str) and names.setdefault(number, name) != name:
      raise ValueError(
        f'two images of {file} have the id {number}: {names[number]} and {name}'
      )

  def make(entry):
    fields = {
      'image': names[entry['image_id']],
      'caption': entry['caption'],
      'image_id': entry['image_id'],
    }
    return fields, None

  for number, entry in enumerate(value['annotations'], 1):
    yield f'annotation {number}', functools.partial(make, entry)


def _karpathy(value: Any, file: str, folder: pathlib.Path) -> _Rows:
  _expect(value, file, 'images')

  def make(entry):
    fields = {
      'image': os.path.join(entry.get('filepath', ''), entry['filename']),
      'captions': [sentence['raw'] for sentence in entry['sentences']],
      'split': entry['split'],
    }
    return fields, split_names.SPLITS.get(entry['split'], entry['split'])

  for number, entry in enumerate(value['images'], 1):
    yield f'image {number}', functools.partial(make, entry)


def _visual_genome(value: Any, file: str, folder: pathlib.Path) -> _Rows:
  _expect_list(value, file)

  def make(entry, place):
    number = entry['id'] if 'id' in entry else entry['image_id']
    names = [f'{part}{number}.jpg' for part in ('', 'VG_100K/', 'VG_100K_2/')]
    pair = entry['qas'][place]
    fields = {
      'image': _existing(folder, names),
      'question': pair['question'],
      'answer': pair['answer'],
    }
    return fields, None

  for number, entry in enumerate(value, 1):
    pairs = entry.get('qas') if isinstance(entry, dict) else None
    for place in range(len(pairs) if isinstance(pairs, list) else 1):
      where = f'image {number}, question {place + 1}'
      yield where, functools.partial(make, entry, place)


def _gqa(value: Any, file: str, folder: pathlib.Path) -> _Rows:
  if not isinstance(value, dict):
    raise ValueError(f'{file} should hold an object of questions by their ids')

  def make(entry):
    fields = {
      'image': f'{entry["imageId"]}.jpg',
      'question': entry['question'],
      'answer': entry['answer'],
    }
    kind = entry.get('types', {}).get('structural')
    return fields | ({'type': kind} if kind else {}), None

  for key, entry in value.items():
    yield f'question {key}', functools.partial(make, entry)


def read_vqa(
  paths: Sequence[pathlib.Path], options: image_rows.Options
) -> Iterator[raw_records.RawRecord]:
  """VQA's questions with their annotations, in any order of the files."""
  questions, annotations = [], {}
  for path in paths:
    try:
      value = json_files.load(path, options.encoding)
      if isinstance(value, dict) and 'annotations' in value:
        _expect(value, path.name, 'annotations')
        for entry in value['annotations']:
          if annotations.setdefault(_key(entry), entry) != entry:
            raise ValueError(
              f'question_id {_key(entry)} has two annotations; import the '
              'files of each split by themselves'
            )
      else:
        _expect(value, path.name, 'questions')
        subset = value.get('data_subtype', '')
        questions += [(path, subset, entry) for entry in value['questions']]
    except (ValueError, OSError) as error:
      yield raw_records.broken(path.name, path.name, str(error))
  if questions and not annotations:
    names = ', '.join(path.name for path in paths)
    raise ValueError(
      f'there are no annotations in {names}; name both files, '
      '--input=questions.json,annotations.json'
    )
  rows = image_rows.ImageRows(options)
  for number, (path, subset, entry) in enumerate(questions, 1):
    where, name = f'{path.name}: question {number}', f'{path.stem}-{number}'
    try:
      folder = options.images or path.parent
      annotation = annotations[_key(entry)]
      fields = _vqa_fields(entry, annotation, subset, folder)
    except (*_UNEXPECTED, ValueError) as error:
      yield raw_records.broken(name, where, _unexpected(error))
    else:
      yield rows.record(path.parent, where, name, fields, file=path)


def _key(entry: Any) -> str:
  """By which a question and its annotation find each other."""
  return str(entry.get('question_id')) if isinstance(entry, dict) else ''


def _vqa_fields(
  entry: Mapping[str, Any],
  annotation: Mapping[str, Any],
  subset: str,
  folder: pathlib.Path,
) -> raw_records.Fields:
  number = int(entry['image_id'])
  names = [
    f'COCO_{subset}_{number:012d}.jpg',
    f'{number:012d}.jpg',
    f'{number}.jpg',
    f'{subset}/COCO_{subset}_{number:012d}.jpg',
    f'{subset}/{number:012d}.jpg',
  ]
  answers = annotation.get('answers') or [annotation['multiple_choice_answer']]
  fields = {
    'image': _existing(folder, names),
    'question': entry['question'],
    'answers': answers,
  }
  kind = annotation.get('answer_type')
  return fields | ({'type': kind} if kind else {})


def read_conversations(
  paths: Sequence[pathlib.Path], options: image_rows.Options
) -> Iterator[raw_records.RawRecord]:
  """The first question and its answer of each conversation."""
  rows = image_rows.ImageRows(options)
  for path in paths:
    for number, where, entry in json_files.entries(path, options.encoding):
      name = f'{path.stem}-{number}'
      try:
        fields = _first_turns(entry)
      except ValueError as error:
        yield raw_records.broken(name, where, str(error))
      else:
        yield rows.record(path.parent, where, name, fields, file=path)


def _first_turns(entry: Any) -> raw_records.Fields:
  if isinstance(entry, ValueError):
    raise entry
  turns = isinstance(entry, dict) and (
    entry.get('conversations') or entry.get('messages')
  )
  if not isinstance(turns, list):
    raise ValueError('there are neither `conversations` nor `messages`')
  found = {}
  for turn in turns:
    role, text = _turn(turn)
    if role in _ASKS and 'question' not in found:
      found['question'] = _PLACEHOLDER.sub(' ', text).strip()
    elif role in _ANSWERS and 'question' in found:
      found['answer'] = text
      break
  if 'answer' not in found:
    raise ValueError('no answer follows a question among its turns')
  image = entry.get('image', entry.get('images'))
  found |= {'type': entry.get('type', 'conversation'), 'turns': len(turns)}
  return found | ({} if image in (None, []) else {'image': image})


def _turn(turn: Any) -> tuple[str, str]:
  if not isinstance(turn, dict):
    raise ValueError(f'a turn should be an object, not {turn!r:.80}')
  role = turn.get('from', turn.get('role'))
  text = turn.get('value', turn.get('content'))
  if isinstance(text, list):  # Parts, of which some are images.
    parts = [part.get('text') for part in text if isinstance(part, dict)]
    text = ' '.join(part for part in parts if isinstance(part, str))
  if not isinstance(role, str) or not isinstance(text, str):
    raise ValueError(f'a turn has no role or no text: {turn!r:.80}')
  return role, text


def _existing(folder: pathlib.Path, names: Sequence[str]) -> str:
  """The first of the names that is a file; the first one where none is."""
  return next((n for n in names if (folder / n).is_file()), names[0])


def _expect(value: Any, file: str, *keys: str) -> None:
  if not isinstance(value, dict) or not all(
    isinstance(value.get(key), list) for key in keys
  ):
    held = ', '.join(value) if isinstance(value, dict) else repr(value)
    raise ValueError(
      f'{file} should hold an object with the lists {", ".join(keys)}, not '
      f'{held:.200}'
    )


def _expect_list(value: Any, file: str) -> None:
  if not isinstance(value, list):
    raise ValueError(f'{file} should hold a list, not {value!r:.80}')


read_coco = _reader(_coco)
read_karpathy = _reader(_karpathy)
read_visual_genome = _reader(_visual_genome)
read_gqa = _reader(_gqa)
