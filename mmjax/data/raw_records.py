"""Records as people keep them, and how they become ours.

A raw record is a dict of fields. Those that mmjax knows:

  caption    a text, or a list of texts, or texts by language
  captions   the same
  question   a text, with `answer` or `answers`
  questions  a list of texts with a list of `answers` beside it, or a list of
             {question, answer or answers, type}
  type       the question's type; without one: yes/no, number or other

All further fields become metadata.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mmjax.data import images, records

Fields = dict[str, Any]

_ABOUT_CAPTIONS = ('caption', 'captions')
_ABOUT_QUESTIONS = ('question', 'questions', 'answer', 'answers', 'type')


@dataclasses.dataclass(frozen=True, slots=True)
class RawRecord:
  """A record that hasn't been read yet.

  Attributes:
    id: its unique name.
    where: what people call it: a file, with a line or a key.
    group: what it must share a split with, unless a field says so.
    read_fields: reads its fields; raises ValueError where it can't.
    read_image: reads its encoded image, b'' for none; raises ValueError or
      OSError where it can't.
    is_part: whether all such of one id are one record together.
    split: that the input says it belongs to; None where it says nothing.
    image_file: path of its image, where that is a file of its own.
    is_input: whether it stands for a whole input that can't be read to its end.
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


def broken(name: str, where: str, reason: str) -> RawRecord:
  """A record that can't be read: whoever reads it gets the reason.

  Args:
    name: its id.
    where: what people call it; the same as `name` for a whole input.
    reason: why.
  """

  def fail():
    raise ValueError(reason)

  return RawRecord(name, where, name, fail, fail, is_input=name == where)


def to_record(
  raw: RawRecord, language: str | None = None, *, image: bytes | None = None
) -> records.Record:
  """Reads a raw record and checks it, its image by decoding it.

  Args:
    raw: where to read.
    language: which to take of captions by language; None for plain ones and
      those in English.
    image: the encoded image, if it was read and checked before.

  Raises:
    ValueError: it can't be read, its fields can't be understood, or they can't
      be written.
    OSError: a file can't be read.
  """
  fields = raw.read_fields()
  captions, languages = _captions(fields, language)
  questions = _questions(fields)
  if not captions and not questions:
    raise ValueError(
      'there is neither a caption nor a question among the fields '
      f'{", ".join(fields) or "(none)"}'
    )
  if image is None:
    image = raw.read_image()
    if image:
      images.check(image)
  used = _ABOUT_CAPTIONS + (_ABOUT_QUESTIONS if questions else ())
  metadata = {key: fields[key] for key in fields if key not in used}
  if languages:
    metadata['captions'] = languages
  record = {
    'id': raw.id,
    'image': image,
    'captions': captions,
    'questions': questions,
    'metadata': metadata,
  }
  records.check(record)
  return record


def merge(parts: Sequence[records.Record]) -> records.Record:
  """One record of those of one image: all captions, all questions.

  Metadata in which they differ become a list of each one's, None where it has
  none.
  """
  if len(parts) == 1:
    return parts[0]
  captions = itertools.chain(*(part['captions'] for part in parts))
  metadata = {}
  for key in dict.fromkeys(key for part in parts for key in part['metadata']):
    values = [part['metadata'].get(key) for part in parts]
    same = all(value == values[0] for value in values)
    metadata[key] = values[0] if same else values
  return parts[0] | {
    'captions': list(dict.fromkeys(captions)),
    'questions': list(itertools.chain(*(p['questions'] for p in parts))),
    'metadata': metadata,
  }


def _captions(
  fields: Fields, language: str | None
) -> tuple[list[str], dict[str, Any]]:
  """All different captions, and the texts by language where there are some."""
  values = [fields[key] for key in _ABOUT_CAPTIONS if key in fields]
  plain = [value for value in values if not isinstance(value, dict)]
  languages = {}
  for value in values:
    languages |= value if isinstance(value, dict) else {}
  wanted = language or 'en'
  if languages and wanted not in languages and (language or not plain):
    raise ValueError(
      f'there is no caption in {wanted!r}, only in {", ".join(languages)}; '
      'choose one with --language'
    )
  if languages and language:
    plain = []  # Nothing says which language it is in.
  captions = []
  for value in [*plain, *([languages[wanted]] if wanted in languages else [])]:
    captions += [_text(text, 'caption') for text in _list(value)]
  return list(dict.fromkeys(captions)), languages


def _questions(fields: Fields) -> list[dict]:
  if 'questions' in fields:
    questions = _list(fields['questions'])
    if all(isinstance(entry, dict) for entry in questions):
      return [_question(entry) for entry in questions]
    answers = _list(fields.get('answers', []))
    if len(answers) != len(questions):
      raise ValueError(
        f'there are {len(questions)} questions, but {len(answers)} answers'
      )
    pairs = zip(questions, answers, strict=True)
    return [_question({'question': q, 'answers': a}) for q, a in pairs]
  if 'question' in fields:
    return [_question(fields)]
  return []


def _question(entry: Fields) -> dict:
  question = _text(entry.get('question'), 'question')
  answers = _list(entry.get('answers', [])) or _list(entry.get('answer', []))
  # VQA's own files wrap each answer: {'answer': 'yes', 'answer_id': 1}.
  answers = [a.get('answer') if isinstance(a, dict) else a for a in answers]
  answers = [_text(answer, 'answer') for answer in answers]
  if not answers:
    raise ValueError(f'there is no answer to the question {question!r}')
  kind = entry.get('type')
  kind = _kind(answers) if kind is None else _text(kind, 'type')
  return {'question': question, 'answers': answers, 'type': kind}


def _kind(answers: Iterable[str]) -> str:
  if {answer.lower() for answer in answers} <= {'yes', 'no'}:
    return 'yes/no'
  return 'number' if all(a.isdigit() for a in answers) else 'other'


def _list(value: Any) -> list:
  return value if isinstance(value, list) else [value]


def _text(value: Any, what: str) -> str:
  if isinstance(value, bool):
    value = 'yes' if value else 'no'
  if isinstance(value, int | float):
    value = str(value)
  if value is None or value == 'nan':
    raise ValueError(f'{what} is missing ({value!r})')
  if not isinstance(value, str):
    raise ValueError(f'{what} should be text, not {value!r:.80}')
  if not value.strip():
    raise ValueError(f'{what} is empty')
  return value.strip()
