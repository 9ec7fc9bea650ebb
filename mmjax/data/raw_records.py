"""Converts users' records to mmjax's records.

A raw record is a dict of fields. Those that mmjax knows:

  caption    a text, or a list of texts, or texts by language
  captions   the same
  question   a text, with `answer` or `answers`
  choices    texts of which `answer` may be the number, from 0, or the letter;
             `choices.resolve` lists further forms
  questions  a list of texts with a list of `answers` beside it, or a list of
             {question, answer or answers, type}
  type       the question's type; without one: yes/no, number or other

All further fields become metadata.
"""

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from mmjax.data import (
  captions,
  choices,
  columns,
  extra_fields,
  images,
  preference_pairs,
  records,
  texts,
  turn_references,
)
from mmjax.errors import ConfigError

Fields = dict[str, Any]

# Fields that locate a record in the input; none is its text.
_FILE_FIELDS = ('file', 'source', 'key', 'split')
# Names of columns of classes.
_LABEL_FIELDS = ('label', 'labels', 'class', 'class_name', 'category')
_QUESTION_FIELDS = ('question', 'questions', 'answer', 'answers', 'type')


@dataclasses.dataclass(frozen=True, slots=True)
class RawRecord:
  """A record that hasn't been read yet.

  Attributes:
    id: unique name.
    where: location in messages: a file, with a line or a key.
    group: name of the group that must be in one split, unless `group_by` names
      a field.
    read_fields: function that reads the fields or raises ConfigError.
    read_image: function that reads the encoded image, b'' for none, or raises
      ConfigError or OSError.
    is_part: whether all raw records of this id form one record.
    split: split that the input names, None without one.
    image_file: path of the image, where that is a file.
    is_input: whether it stands for a whole input that can't be read completely.
    read_file: function that reads another file that the record names, by its
      path in the input; None where there are no files.
  """

  id: str
  where: str
  group: str
  read_fields: Callable[[], Fields]
  read_image: Callable[[], bytes]
  is_part: bool = False
  split: str | None = None
  image_file: str | None = None
  is_input: bool = False
  read_file: Callable[[str], bytes] | None = None


def make_unreadable(name: str, where: str, reason: str) -> RawRecord:
  """Makes a record whose reading raises ConfigError.

  Args:
    name: id of the record.
    where: location in messages; the same as `name` for a whole input.
    reason: message of the error.
  """

  def fail():
    raise ConfigError(reason)

  return RawRecord(name, where, name, fail, fail, is_input=name == where)


def to_record(
  raw: RawRecord,
  language: str | None = None,
  *,
  image: bytes | None = None,
  schema: records.Schema | None = None,
  extra: Sequence[extra_fields.ExtraField] = (),
) -> records.Record:
  """Reads and checks a raw record; decodes its image.

  Args:
    raw: the raw record.
    language: language to take of captions by language; None for English ones
      and those without a language.
    image: the encoded image, if it was read and checked before.
    schema: fields of the data set; None for the standard ones and `extra`.
    extra: fields that further columns fill.

  Raises:
    ConfigError: if it can't be read, its fields aren't understood, or they
      can't be written.
    OSError: if a file can't be read.
  """
  fields = raw.read_fields()
  caption_texts, languages = captions.read(fields, language)
  questions = _read_questions(fields)
  further = _read_further(raw, fields, extra)
  if not caption_texts and not questions and not further:
    raise ConfigError(_explain_missing_texts(fields))
  is_later = image is not None  # Its first part has the image.
  if image is None:
    image = raw.read_image()
    if image:
      images.check(image)
  omitted = {*(_QUESTION_FIELDS if questions else ())}
  omitted |= extra_fields.list_omitted(extra)
  turn_references.check(extra, further, has_image=bool(image) or is_later)
  preference_pairs.check(extra, further)
  metadata = {
    key: fields[key]
    for key in fields
    if key not in omitted and not captions.is_caption_field(key)
  }
  if languages:
    metadata['captions'] = languages
  record = {
    'id': raw.id,
    'fields': {
      **({'image': image} if image else {}),
      **({'captions': caption_texts} if caption_texts else {}),
      **({'questions': questions} if questions else {}),
      **further,
    },
    'metadata': metadata,
  }
  (schema or make_schema(extra)).check(record)
  return record


def _read_further(
  raw: RawRecord, fields: Fields, extra: Sequence[extra_fields.ExtraField]
) -> Fields:
  """The values of further fields, without those of empty cells."""
  values = {
    field.name: extra_fields.read(field, fields, raw.read_file)
    for field in extra
  }
  return {name: value for name, value in values.items() if value is not None}


def make_schema(extra: Sequence[extra_fields.ExtraField]) -> records.Schema:
  """Makes the schema of the standard fields and further ones."""
  return records.Schema(
    records.STANDARD | {field.name: field.kind for field in extra}
  )


def merge(parts: Sequence[records.Record]) -> records.Record:
  """Merges the records of one image: all captions, all questions.

  A metadata field in which they differ becomes a list with the value of each,
  None for a missing one.
  """
  if len(parts) == 1:
    return parts[0]
  fields = [part['fields'] for part in parts]
  merged = {
    'captions': list(
      dict.fromkeys(itertools.chain(*(f.get('captions', ()) for f in fields)))
    ),
    'questions': list(
      itertools.chain(*(f.get('questions', ()) for f in fields))
    ),
  }
  merged = {name: value for name, value in merged.items() if value}
  for part in fields[1:]:
    for name in part.keys() - {'image', 'captions', 'questions'}:
      if name not in fields[0] or not _are_equal(fields[0][name], part[name]):
        raise ConfigError(
          f'rows of the image of record {parts[0]["id"]!r} differ in the field '
          f'{name!r}; give each row an id of its own'
        )
  metadata = {}
  for key in dict.fromkeys(key for part in parts for key in part['metadata']):
    values = [part['metadata'].get(key) for part in parts]
    same = all(value == values[0] for value in values)
    metadata[key] = values[0] if same else values
  return parts[0] | {
    'fields': fields[0] | merged,
    'metadata': metadata,
  }


def _are_equal(first: Any, second: Any) -> bool:
  if isinstance(first, np.ndarray):
    return np.array_equal(first, second)
  return first == second


def _explain_missing_texts(fields: Fields) -> str:
  """Explains why fields with neither a caption nor a question are refused."""
  reason = 'there is neither a caption nor a question among the fields '
  if not fields:
    return f'{reason}(none)'
  reason += ', '.join(fields)
  if {'data', 'annotations'} <= fields.keys():
    return (
      f'{reason}, as in the JSON of Label Studio; export it as JSON-MIN or '
      'CSV, which have one row an image'
    )
  if 'conversations' in fields or 'messages' in fields:
    return f'{reason}; --format=conversations reads turns'
  if any(map(captions.is_caption_field, fields)):
    return f'{reason}, whose captions are empty'
  likely = max(
    fields, key=lambda field: _score_as_caption(field, fields[field])
  )
  if not _score_as_caption(likely, fields[likely])[1]:
    return reason
  return (
    f'{reason}; if one of them is the caption, name it, for example '
    f'{columns.format_flag("caption", likely)}'
  )


def _score_as_caption(field: str, value: Any) -> tuple[bool, int]:
  """Scores a field as the caption: whether it is a class, number of words."""
  text = ' '.join(item for item in _as_list(value) if isinstance(item, str))
  is_label = field.lower() in _LABEL_FIELDS and bool(text)
  if field in _FILE_FIELDS or not (is_label or re.search(r'[^\W\d]', text)):
    return False, 0
  return is_label, len(text.split())


def _read_questions(fields: Fields) -> list[dict]:
  if 'questions' in fields:
    questions = _as_list(fields['questions'])
    if all(isinstance(entry, dict) for entry in questions):
      return [_read_question(entry) for entry in questions]
    answers = _as_list(fields.get('answers', []))
    if len(answers) != len(questions):
      raise ConfigError(
        f'there are {len(questions)} questions, but {len(answers)} answers'
      )
    shared = {
      key: value for key, value in fields.items() if key not in _QUESTION_FIELDS
    }
    return [
      _read_question(shared | {'question': question, 'answers': answer})
      for question, answer in zip(questions, answers, strict=True)
    ]
  if 'question' in fields:
    return [_read_question(fields)]
  return []


def _read_question(entry: Fields) -> dict:
  question = texts.read(entry.get('question'), 'question')
  answers = _as_list(entry.get('answers', [])) or _as_list(
    entry.get('answer', [])
  )
  # VQA's own files wrap each answer: {'answer': 'yes', 'answer_id': 1}.
  answers = list(itertools.chain(*map(_unwrap, answers)))
  answers = [choices.resolve(answer, entry) for answer in answers]
  answers = [texts.read(answer, 'answer') for answer in answers]
  if not answers:
    raise ConfigError(
      f'there is no answer to the question {question!r}; name its column, for '
      'example --columns=answer=COLUMN'
    )
  kind = entry.get('type')
  kind = _infer_type(answers) if kind is None else texts.read(kind, 'type')
  return {'question': question, 'answers': answers, 'type': kind}


def _unwrap(answer: Any) -> list[Any]:
  """Returns the answers of an object: VQA's has one, SQuAD's may have more."""
  if not isinstance(answer, dict):
    return [answer]
  for key in ('answer', 'text'):
    if key in answer:
      return _as_list(answer[key])
  raise ConfigError(f'answer should be text, not an object of {list(answer)}')


def _infer_type(answers: Iterable[str]) -> str:
  if {answer.lower() for answer in answers} <= {'yes', 'no'}:
    return 'yes/no'
  return 'number' if all(a.isdigit() for a in answers) else 'other'


def _as_list(value: Any) -> list:
  return value if isinstance(value, list) else [value]
