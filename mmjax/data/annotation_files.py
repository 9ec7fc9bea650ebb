"""Reads the annotation files of published data sets.

COCO's captions, VQA v2's questions with their annotations, Karpathy's splits,
Visual Genome's and GQA's questions. Images are files in the folder of the
annotations, or in that of `--images`.
"""

import functools
import itertools
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mmjax.data import (
  image_rows,
  json_files,
  raw_records,
  split_names,
  text_files,
)
from mmjax.errors import ConfigError

Reader = Callable[
  [Sequence[pathlib.Path], image_rows.Options],
  Iterator[raw_records.RawRecord],
]
# For each row its location in messages, and a function that returns its fields
# by mmjax's names and its split, or raises ConfigError.
_Rows = Iterator[
  tuple[str, Callable[[], tuple[raw_records.Fields, str | None]]]
]


def _make_reader(
  list_rows: Callable[[Any, str, pathlib.Path], _Rows],
) -> Reader:
  """Makes a reader of the rows that `list_rows(value, file, folder)` yields."""

  def read(paths, options):
    rows = image_rows.ImageRows(options)
    for path in paths:
      folder = options.images or path.parent
      try:
        value = json_files.load(path, options.encoding)
        numbered = enumerate(list_rows(value, path.name, folder), 1)
        for number, (where, make) in numbered:
          where, name = f'{path.name}: {where}', f'{path.stem}-{number}'
          try:
            fields, split = make()
          except ConfigError as error:
            yield raw_records.make_unreadable(name, where, str(error))
          else:
            yield rows.make_record(
              path.parent, where, name, fields, file=path, split=split
            )
      except (ConfigError, OSError) as error:
        yield raw_records.make_unreadable(path.name, path.name, str(error))

  return read


def _get(entry: Any, key: str) -> Any:
  if not isinstance(entry, dict):
    raise ConfigError(
      f'it should be an object with {key!r}, not {text_files.quote(entry)}'
    )
  if key not in entry:
    raise ConfigError(f'it has no {key!r}')
  return entry[key]


def _get_text(entry: Any, key: str) -> str:
  value = _get(entry, key)
  if not isinstance(value, str):
    raise ConfigError(
      f'its {key!r} should be text, not {text_files.quote(value)}'
    )
  return value


def _get_id(entry: Any, key: str) -> int | str:
  value = _get(entry, key)
  if not isinstance(value, int | str) or value == '':
    raise ConfigError(
      f'its {key!r} should be a number or text, not {text_files.quote(value)}'
    )
  return value


def _get_list(entry: Any, key: str) -> list[Any]:
  value = _get(entry, key)
  if not isinstance(value, list):
    raise ConfigError(
      f'its {key!r} should be a list, not {text_files.quote(value)}'
    )
  return value


def _list_coco_rows(value: Any, file: str, folder: pathlib.Path) -> _Rows:
  _check_object(value, file, 'images', 'annotations')
  names = {}  # File names by image id as text; several where an id repeats.
  for image in value['images']:
    key = _format_id(image.get('id')) if isinstance(image, dict) else None
    if key is not None:
      files = names.setdefault(key, [])
      if image.get('file_name') not in files:
        files.append(image.get('file_name'))

  def make(entry):
    number = _get(entry, 'image_id')
    files = names.get(_format_id(number))
    if not files:
      raise ConfigError(
        f'no image of {file} has the id {text_files.quote(number)}, which is '
        'its image_id'
      )
    if len(files) > 1:
      raise ConfigError(
        f'two images of {file} have the id {number}: {files[0]} and {files[1]}'
      )
    fields = {
      'image': files[0],
      'caption': _get_caption(entry, file),
      'image_id': number,
    }
    return fields, None

  for number, entry in enumerate(value['annotations'], 1):
    yield f'annotation {number}', functools.partial(make, entry)


def _format_id(value: Any) -> str | None:
  """Returns an id as text, also of 5.0, as pandas writes 5; None for others."""
  if isinstance(value, float) and value.is_integer():
    value = int(value)
  return str(value) if isinstance(value, int | str) else None


def _get_caption(entry: Any, file: str) -> Any:
  if isinstance(entry, dict) and 'category_id' in entry:
    raise ConfigError(
      f'{file} holds classes and boxes, not captions; take a file '
      'captions_*.json, or a table with a column of captions'
    )
  return _get(entry, 'caption')


def _list_karpathy_rows(value: Any, file: str, folder: pathlib.Path) -> _Rows:
  _check_object(value, file, 'images')

  def make(entry):
    name, split = _get_text(entry, 'filename'), _get_text(entry, 'split')
    if entry.get('filepath'):
      name = os.path.join(_get_text(entry, 'filepath'), name)
    fields = {
      'image': name,
      'captions': [_get(each, 'raw') for each in _get_list(entry, 'sentences')],
      'split': split,
    }
    return fields, split_names.SPLITS.get(split, split)

  for number, entry in enumerate(value['images'], 1):
    yield f'image {number}', functools.partial(make, entry)


def _list_visual_genome_rows(
  value: Any, file: str, folder: pathlib.Path
) -> _Rows:
  _check_list(value, file)

  def make(entry, place):
    pair = _get_list(entry, 'qas')[place]
    number = _get_id(entry, 'id' if 'id' in entry else 'image_id')
    names = [f'{part}{number}.jpg' for part in ('', 'VG_100K/', 'VG_100K_2/')]
    fields = {
      'image': _find_file(folder, names),
      'question': _get(pair, 'question'),
      'answer': _get(pair, 'answer'),
    }
    return fields, None

  for number, entry in enumerate(value, 1):
    pairs = entry.get('qas') if isinstance(entry, dict) else None
    for place in range(len(pairs) if isinstance(pairs, list) else 1):
      where = f'image {number}, question {place + 1}'
      yield where, functools.partial(make, entry, place)


def _list_gqa_rows(value: Any, file: str, folder: pathlib.Path) -> _Rows:
  if not isinstance(value, dict):
    raise ConfigError(f'{file} should hold an object of questions by their ids')

  def make(entry):
    fields = {
      'image': f'{_get_id(entry, "imageId")}.jpg',
      'question': _get(entry, 'question'),
      'answer': _get(entry, 'answer'),
    }
    types = entry.get('types')
    kind = types.get('structural') if isinstance(types, dict) else None
    return fields | ({'type': kind} if kind else {}), None

  for key, entry in value.items():
    yield f'question {key}', functools.partial(make, entry)


def read_vqa(
  paths: Sequence[pathlib.Path], options: image_rows.Options
) -> Iterator[raw_records.RawRecord]:
  """Reads VQA's questions with their annotations, in any order of the files."""
  questions, annotations = [], {}
  for path in paths:
    try:
      value = json_files.load(path, options.encoding)
      if isinstance(value, dict) and 'annotations' in value:
        _check_object(value, path.name, 'annotations')
        for entry in value['annotations']:
          entries = annotations.setdefault(_get_question_id(entry), [])
          if entry not in entries:
            entries.append(entry)
      else:
        _check_object(value, path.name, 'questions')
        subset = value.get('data_subtype', '')
        questions += [(path, subset, entry) for entry in value['questions']]
    except (ConfigError, OSError) as error:
      yield raw_records.make_unreadable(path.name, path.name, str(error))
  if questions and not annotations:
    names = ', '.join(path.name for path in paths)
    raise ConfigError(
      f'there are no annotations in {names}; name both files, '
      '--input=questions.json,annotations.json'
    )
  if annotations and not questions:
    names = ', '.join(path.name for path in paths)
    raise ConfigError(
      f'there are no questions in {names}; name both files, '
      '--input=questions.json,annotations.json'
    )
  rows = image_rows.ImageRows(options)
  for number, (path, subset, entry) in enumerate(questions, 1):
    where, name = f'{path.name}: question {number}', f'{path.stem}-{number}'
    try:
      folder = options.images or path.parent
      annotation = _find_annotation(entry, annotations)
      fields = _make_vqa_fields(entry, annotation, subset, folder)
    except ConfigError as error:
      yield raw_records.make_unreadable(name, where, str(error))
    else:
      yield rows.make_record(path.parent, where, name, fields, file=path)


def _get_question_id(entry: Any) -> str | None:
  """Returns the id that a question and its annotation share."""
  if not isinstance(entry, dict) or entry.get('question_id') is None:
    return None
  return str(entry['question_id'])


def _find_annotation(
  entry: Any, annotations: Mapping[str | None, Sequence[Any]]
) -> Mapping[str, Any]:
  """Returns the annotation of a question."""
  number = _get(entry, 'question_id')
  matches = (
    annotations.get(_get_question_id(entry), []) if number is not None else []
  )
  if not matches:
    raise ConfigError(
      f'no annotation has its question_id, {text_files.quote(number)}'
    )
  if len(matches) > 1:
    raise ConfigError(
      f'question_id {text_files.quote(number)} has two annotations; import '
      'the files of each split separately'
    )
  return matches[0]


def _make_vqa_fields(
  entry: Mapping[str, Any],
  annotation: Mapping[str, Any],
  subset: str,
  folder: pathlib.Path,
) -> raw_records.Fields:
  number = _get(entry, 'image_id')
  other = annotation.get('image_id', number)
  if _format_id(other) != _format_id(number):
    raise ConfigError(
      f'its image_id is {text_files.quote(number)}, but that of its annotation '
      f'is {text_files.quote(other)}; take both files from one release'
    )
  if isinstance(number, str) and re.fullmatch('[0-9]{1,18}', number):
    number = int(number)
  if not isinstance(number, int):
    raise ConfigError(
      f"its 'image_id' should be a number, not {text_files.quote(number)}"
    )
  names = [
    f'COCO_{subset}_{number:012d}.jpg',
    f'{number:012d}.jpg',
    f'{number}.jpg',
    f'{subset}/COCO_{subset}_{number:012d}.jpg',
    f'{subset}/{number:012d}.jpg',
  ]
  answers = annotation.get('answers')
  fields = {
    'image': _find_file(folder, names),
    'question': _get(entry, 'question'),
    'answers': answers or [_get(annotation, 'multiple_choice_answer')],
  }
  kind = annotation.get('answer_type')
  return fields | ({'type': kind} if kind else {})


def _find_file(folder: pathlib.Path, names: Sequence[str]) -> str:
  """Returns the first name that is a file, else the first name."""
  return next((n for n in names if (folder / n).is_file()), names[0])


def _check_object(value: Any, file: str, *keys: str) -> None:
  lists = ' and '.join(keys)
  if not isinstance(value, dict):
    raise ConfigError(
      f'{file} should hold an object with lists {lists}, not '
      f'{text_files.quote(value)}'
    )
  for key in keys:
    if key not in value:
      names = ', '.join(map(repr, itertools.islice(value, 9)))
      raise ConfigError(
        f'{file} should hold an object with lists {lists}; it has no {key!r}, '
        f'only {names or "nothing"}'
      )
    _get_list(value, key)


def _check_list(value: Any, file: str) -> None:
  if not isinstance(value, list):
    raise ConfigError(
      f'{file} should hold a list, not {text_files.quote(value)}'
    )


read_coco = _make_reader(_list_coco_rows)
read_karpathy = _make_reader(_list_karpathy_rows)
read_visual_genome = _make_reader(_list_visual_genome_rows)
read_gqa = _make_reader(_list_gqa_rows)
