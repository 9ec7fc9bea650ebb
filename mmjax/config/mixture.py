"""The setting `data.mixture`: several data sets that one run trains on."""

import re
from typing import Any

from mmjax.config import fields, schema

_NAME = re.compile(r'[A-Za-z0-9_-]+')
_PREFIX = 'data.mixture.'
_EXAMPLE = "data.mixture=dict(shapes=dict(name='shapes', weight=2.0), ...)"


def find(path: str) -> fields.Field | None:
  """The field of a source that a path names; None for another path.

  >>> find('data.mixture.shapes.weight').default
  1.0
  """
  if not path.startswith(_PREFIX):
    return None
  _, _, name = path.removeprefix(_PREFIX).partition('.')
  return schema.SOURCE.get(name.split('.')[0])


def values(data: Any, name: str) -> list[Any]:
  """A field's value in each source of the mixture, or in `data` without one.

  Args:
    data: the `data` section of a completed config.
    name: name of a field of `data` that a source may set.
  """
  if data.mixture is None:
    return [data[name]]
  own = [source.get(name) for source in data.mixture.values() if source]
  return [data[name] if value is None else value for value in own]


def faults(data: Any) -> list[str]:
  """What is wrong with the names of the sources and of their data sets."""
  errors = []
  if data.name:
    errors.append(
      f'data.name={data.name!r} and data.mixture are both set; leave out one: '
      "data.name='', or data.mixture=None"
    )
  chosen = {k: v for k, v in data.mixture.items() if v is not None}
  if not chosen:
    errors.append(f'data.mixture has no source; add one, as in {_EXAMPLE}')
  for source, section in chosen.items():
    path = f'{_PREFIX}{source}'
    if not _NAME.fullmatch(source):
      errors.append(
        f'data.mixture: the name {source!r} of a source is not legal; use '
        'letters, digits, _ and -'
      )
    elif not hasattr(section, 'items'):
      errors.append(
        f'{path}={section!r} is not legal: a dict of settings, as in {_EXAMPLE}'
      )
    elif not section.get('name'):
      errors.append(
        f"{path}.name names no data set; set it, as in {path}.name='shapes'"
      )
  return errors
