"""Records as people keep them, and how they become ours.

A raw record is a dict of fields. Those that mmjax knows:

  caption    a text, or a list of texts, or texts by language
  captions   the same
  question   a text, with `answer` or `answers`
  choices    texts of which `answer` may be the number, from 0, or the letter
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

from mmjax.data import captions, columns, images, records, texts
from mmjax.errors import ConfigError

Fields = dict[str, Any]

# Fields that say where a record was; not its texts.
_ABOUT_FILES = ('file', 'source', 'key', 'split')
# What the columns of classes are called.
_LABELS = ('label', 'labels', 'class', 'class_name', 'category')
# Where a question has the answers to choose from.
_CHOICES = ('choices', 'options')
_ABOUT_QUESTIONS = ('question', 'questions', 'answer', 'answers', 'type')


@dataclasses.dataclass(frozen=True, slots=True)
class RawRecord:
  """A record that hasn't been read yet.

  Attributes:
    id: its unique name.
    where: what people call it: a file, with a line or a key.
    group: what it must share a split with, unless a field says so.
    read_fields: reads its fields; raises ConfigError where it can't.
    read_image: reads its encoded image, b'' for none; raises ConfigError or
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
    raise ConfigError(reason)

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
    ConfigError: it can't be read, its fields can't be understood, or they can't
      be written.
    OSError: a file can't be read.
  """
  fields = raw.read_fields()
  found, languages = captions.read(fields, language)
  questions = _questions(fields)
  if not found and not questions:
    raise ConfigError(_without_texts(fields))
  if image is None:
    image = raw.read_image()
    if image:
      images.check(image)
  used = _ABOUT_QUESTIONS if questions else ()
  metadata = {
    key: fields[key]
    for key in fields
    if key not in used and not captions.is_about(key)
  }
  if languages:
    metadata['captions'] = languages
  record = {
    'id': raw.id,
    'image': image,
    'captions': found,
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
  all_captions = itertools.chain(*(part['captions'] for part in parts))
  metadata = {}
  for key in dict.fromkeys(key for part in parts for key in part['metadata']):
    values = [part['metadata'].get(key) for part in parts]
    same = all(value == values[0] for value in values)
    metadata[key] = values[0] if same else values
  return parts[0] | {
    'captions': list(dict.fromkeys(all_captions)),
    'questions': list(itertools.chain(*(p['questions'] for p in parts))),
    'metadata': metadata,
  }


def _without_texts(fields: Fields) -> str:
  """Why fields with neither a caption nor a question are refused."""
  reason = 'there is neither a caption nor a question among the fields '
  if not fields:
    return f'{reason}(none)'
  reason += ', '.join(fields)
  if 'conversations' in fields or 'messages' in fields:
    return f'{reason}; --format=conversations reads turns'
  if any(map(captions.is_about, fields)):
    return f'{reason}, whose captions are empty'
  likely = max(fields, key=lambda field: _wording(field, fields[field]))
  if not _wording(likely, fields[likely])[1]:
    return reason
  return (
    f'{reason}; if one of them is the caption, name it, for example '
    f'{columns.flag("caption", likely)}'
  )


def _wording(field: str, value: Any) -> tuple[bool, int]:
  """How likely a field is the caption: the name of a class, number of words."""
  text = ' '.join(item for item in _list(value) if isinstance(item, str))
  is_label = field.lower() in _LABELS and bool(text)
  if field in _ABOUT_FILES or not (is_label or re.search(r'[^\W\d]', text)):
    return False, 0
  return is_label, len(text.split())


def _questions(fields: Fields) -> list[dict]:
  if 'questions' in fields:
    questions = _list(fields['questions'])
    if all(isinstance(entry, dict) for entry in questions):
      return [_question(entry) for entry in questions]
    answers = _list(fields.get('answers', []))
    if len(answers) != len(questions):
      raise ConfigError(
        f'there are {len(questions)} questions, but {len(answers)} answers'
      )
    pairs = zip(questions, answers, strict=True)
    return [_question({'question': q, 'answers': a}) for q, a in pairs]
  if 'question' in fields:
    return [_question(fields)]
  return []


def _question(entry: Fields) -> dict:
  question = texts.read(entry.get('question'), 'question')
  answers = _list(entry.get('answers', [])) or _list(entry.get('answer', []))
  # VQA's own files wrap each answer: {'answer': 'yes', 'answer_id': 1}.
  answers = list(itertools.chain(*map(_unwrapped, answers)))
  answers = [_chosen(answer, entry) for answer in answers]
  answers = [texts.read(answer, 'answer') for answer in answers]
  if not answers:
    raise ConfigError(
      f'there is no answer to the question {question!r}; name its column, for '
      'example --columns=answer=COLUMN'
    )
  kind = entry.get('type')
  kind = _kind(answers) if kind is None else texts.read(kind, 'type')
  return {'question': question, 'answers': answers, 'type': kind}


def _unwrapped(answer: Any) -> list[Any]:
  """The answers of an object: VQA's has one, SQuAD's may have more."""
  if not isinstance(answer, dict):
    return [answer]
  for key in ('answer', 'text'):
    if key in answer:
      return _list(answer[key])
  raise ConfigError(f'answer should be text, not an object of {list(answer)}')


def _chosen(answer: Any, entry: Fields) -> Any:
  """An answer, or the choice that its number or letter stands for."""
  choices = next((entry[key] for key in _CHOICES if key in entry), None)
  if not isinstance(choices, list) or not choices:
    return answer
  named = answer.strip() if isinstance(answer, str) else answer
  if named in choices and isinstance(named, str):
    return answer
  number = None
  if isinstance(named, str) and re.fullmatch('[A-Z]', named):
    number = ord(named) - ord('A')
  elif texts.is_number(named) and re.fullmatch('[0-9]{1,3}', str(named)):
    number = int(named)
  if number is None:
    return answer
  if number >= len(choices):
    raise ConfigError(
      f'answer {named!r} is none of its {len(choices)} choices, which are '
      'numbered from 0 or A'
    )
  if str(named) in map(str, choices):
    raise ConfigError(
      f'answer {named!r} may be one of its choices or the number of one; write '
      'the choice as a text'
    )
  return choices[number]


def _kind(answers: Iterable[str]) -> str:
  if {answer.lower() for answer in answers} <= {'yes', 'no'}:
    return 'yes/no'
  return 'number' if all(a.isdigit() for a in answers) else 'other'


def _list(value: Any) -> list:
  return value if isinstance(value, list) else [value]
