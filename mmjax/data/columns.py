"""Maps the names of columns and keys that other tools write to fields."""

import difflib
import functools
import re
import shlex
from collections.abc import Mapping, Sequence

from mmjax.errors import ConfigError

FIELDS = (
  'id',
  'image',
  'caption',
  'captions',
  'question',
  'questions',
  'answer',
  'answers',
  'type',
)

# Names that open_clip, LAVIS, img2dataset and data sets on the Hugging Face hub
# give them.
ALIASES = {
  'image': (
    'img',
    'images',
    'image_path',
    'img_path',
    'filepath',
    'file_path',
    'filename',
    'file_name',
    'image_file',
    'image_filename',
    'image_name',
    'img_name',
    'path',
  ),
  'caption': (
    'text',
    'texts',
    'title',
    'txt',
    'sentence',
    'sentences',
    'sentences_raw',
    'description',
    'comment',
    'prompt',
    'caption_text',
  ),
  'question': ('query',),
  'answer': ('multiple_choice_answer',),
  'type': ('answer_type',),
}
_NUMBERED = re.compile(r'caption[_ -]?\d+')
# ISO 639-1 without `id` and `no`, which are numbers of captions.
_LANGUAGES = frozenset(
  re.findall(
    r'\w+',
    'aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch '
    'co cr cs cu cv cy da de dv dz ee el en eo es et eu fa ff fi fj fo fr fy '
    'ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia ie ig ii ik io is it iu '
    'ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt '
    'lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn nr nv ny oc oj '
    'om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn '
    'so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk '
    'ur uz ve vi vo wa wo xh yi yo za zh zu',
  )
)
_LANGUAGE = re.compile(r'captions?[_ .-](([a-z]{2})([_-][a-z]{2,4})?)')
# Words that resemble a field's name but are not misspelt.
_NOT_MISSPELT = ('options', 'captioner')
# Metadata of a field, such as image_id, is not a misspelling of it.
_FIELD_METADATA = re.compile(rf'({"|".join(FIELDS)})[_ .:-].*')


def parse(text: str | None) -> tuple[tuple[str, str], ...]:
  """Reads `--columns`.

  >>> parse('caption=title,image=file')
  (('caption', 'title'), ('image', 'file'))

  Raises:
    ConfigError: if the text has another form.
  """
  pairs = []
  for part in (text or '').split(','):
    field, equals, name = (piece.strip() for piece in part.partition('='))
    if not part.strip():
      continue
    if not (field and equals and name):
      raise ConfigError(
        f'columns {text!r} should read field=column,field=column, as in '
        "'caption=title,image=file'"
      )
    pairs.append((field, name))
  return tuple(pairs)


def format_flag(field: str, name: str) -> str:
  """Formats the flag that reads a field from a column, quoted for a shell.

  >>> format_flag('image', 'file'), format_flag('image', 'my file')
  ('--columns=image=file', "'--columns=image=my file'")
  """
  return shlex.quote(f'--columns={field}={name.strip()}')


def find_language(name: str) -> str | None:
  """Returns the language of the captions in a column, by the column's name.

  >>> [find_language(n) for n in ('caption_de', 'Captions-pt_BR', 'caption_id')]
  ['de', 'pt-br', None]
  """
  match = _LANGUAGE.fullmatch(name.strip().lower())
  if not match or match[2] not in _LANGUAGES:
    return None
  return match[1].replace('_', '-')


def count_known(
  names: Sequence[str], requested: Sequence[tuple[str, str]]
) -> int:
  """Counts the names that are fields, aliases of fields, or requested."""
  legal = {*FIELDS, *(name.lower() for _, name in requested)}
  legal.update(*ALIASES.values())
  return sum(
    name.strip().lower() in legal
    or _normalise(name) in legal
    or bool(_NUMBERED.fullmatch(name.strip().lower()))
    or find_language(name) is not None
    for name in names
  )


def _normalise(name: str) -> str:
  """Spells a name as aliases are: `fileName` becomes `file_name`."""
  name = re.sub(r'([a-z])([A-Z])', r'\1_\2', name.strip())
  return re.sub('[ .-]', '_', name).lower()


@functools.lru_cache(256)
def resolve(
  names: tuple[str, ...],
  requested: tuple[tuple[str, str], ...] = (),
  aliased: tuple[str, ...] = tuple(ALIASES),
) -> Mapping[str, str]:
  """Returns the field that each column fills.

  A field is filled by the column in `requested`; else by the columns of its own
  name in any case, for captions also numbered ones and those of a language;
  else by an alias. All other columns keep their names and become metadata.

  Args:
    names: names of the columns.
    requested: (field, column) pairs, which take precedence.
    aliased: fields that an alias may fill.

  Returns:
    The field of each column, in the order of the names.

  Raises:
    ConfigError: if two columns have the same name or could both fill a field,
      if one seems misspelt, or if a requested one is missing.
  """
  plain = {}
  for name in names:
    lowered = name.strip().lower()
    if lowered in plain:
      raise ConfigError(f'the column {name.strip()!r} occurs twice')
    plain[lowered] = name
  fields = _resolve_requested(plain, requested)
  assigned = set(fields.values())
  for lowered, name in plain.items():
    field = 'caption' if _NUMBERED.fullmatch(lowered) else lowered
    if name not in fields and field in FIELDS and field not in assigned:
      fields[name] = field
  by_language = {n: name for n, name in plain.items() if find_language(n)}
  if by_language and 'caption' not in assigned:
    aliased = tuple(field for field in aliased if field != 'caption')
  _add_aliases(fields, plain, aliased)
  for lowered, name in plain.items():
    if name not in fields:
      _refuse_misspelt(lowered, name)
      fields[name] = name.strip() or 'unnamed'
      if lowered in FIELDS or (
        lowered in by_language and 'caption' in assigned
      ):
        # Another column was requested for this field.
        fields[name] = f'{lowered}_column'
  return {name: fields[name] for name in names}


def _resolve_requested(
  plain: Mapping[str, str], requested: Sequence[tuple[str, str]]
) -> dict[str, str]:
  fields = {}
  for field, column in requested:
    if column.lower() not in plain:
      swapped = field.lower() in plain and column in FIELDS
      hint = f'; the field comes first: {format_flag(column, field)}'
      raise ConfigError(
        f'there is no column {column!r} for {field}; there are '
        f'{", ".join(plain.values())}{hint if swapped else ""}'
      )
    if field != column and (close := _find_misspelt(field)):
      raise ConfigError(
        f'--columns={field}={column}: the field {field!r} is unknown; did you '
        f'mean {format_flag(close, column)}?'
      )
    name = plain[column.lower()]
    if name in fields:
      raise ConfigError(f'--columns names the column {column!r} twice')
    if field in fields.values() and field != 'caption':
      raise ConfigError(f'--columns names two columns for {field}')
    fields[name] = field
  return fields


def _add_aliases(
  fields: dict[str, str], plain: Mapping[str, str], aliased: Sequence[str]
) -> None:
  # What stands before two answers is not a caption.
  other = {'prompt'} if {'chosen', 'rejected'} <= plain.keys() else set()
  for field in aliased:
    if field in fields.values() or f'{field}s' in fields.values():
      continue
    candidates = [
      name
      for alias in ALIASES[field]
      if alias not in other
      for lowered, name in plain.items()
      if alias in (lowered, _normalise(name)) and name not in fields
    ]
    candidates = list(dict.fromkeys(candidates))
    if len(candidates) > 1:
      raise ConfigError(
        f'the columns {", ".join(map(repr, candidates))} could all be the '
        f'{field}; choose one, for example {format_flag(field, candidates[0])}'
      )
    fields.update((name, field) for name in candidates)


def _refuse_misspelt(lowered: str, name: str) -> None:
  if lowered not in FIELDS and (close := _find_misspelt(name)):
    name = name.strip()
    raise ConfigError(
      f'the column {name!r} is unknown; if it is the {close}, add '
      f'{format_flag(close, name)}, else {format_flag(name, name)}'
    )


def _find_misspelt(name: str) -> str | None:
  """Returns the field that a name seems to be a misspelling of."""
  lowered = name.strip().lower()
  if lowered in (*FIELDS, *_NOT_MISSPELT) or _FIELD_METADATA.fullmatch(
    _normalise(name)
  ):
    return None
  long = [field for field in FIELDS if len(field) > 4]
  close = difflib.get_close_matches(lowered, long, n=1, cutoff=0.8)
  return close[0] if close else None
