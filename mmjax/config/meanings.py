"""What settings of models and tasks mean, from their docstrings."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

from mmjax import models
from mmjax.config import components

_HEADING = 'Attributes:'
_NAME = re.compile(r'  (\w+): (.*)')


def of_class(cls: type) -> dict[str, str]:
  """Meanings of a class's fields, by name.

  They are under `Attributes:` in its docstring and those of its bases. One that
  has several lines is joined to one.

  Args:
    cls: a class such as a module's.
  """
  out: dict[str, str] = {}
  for base in reversed(cls.__mro__):
    if not base.__module__.startswith(('flax.', 'builtins')):
      out |= _parse(vars(base).get('__doc__') or '')
  return out


def _parse(doc: str) -> dict[str, str]:
  lines = inspect.cleandoc(doc).splitlines()
  start = lines.index(_HEADING) + 1 if _HEADING in lines else len(lines)
  out: dict[str, str] = {}
  name = ''
  for line in lines[start:]:
    if not line.startswith('  '):
      break
    match = _NAME.match(line)
    if match:
      name, out[match[1]] = match[1], match[2]
    elif name:
      out[name] += f' {line.strip()}'
  return out


def of_config(config: Any) -> dict[str, str]:
  """Meanings of all settings of a config's model and tasks.

  Args:
    config: a completed config.

  Returns:
    Dotted path -> meaning, also for settings that the config does not set.
  """
  return dict(_iterate(config))


def _iterate(config: Any) -> Iterator[tuple[str, str]]:
  known = components.of(config)
  tables = {'model': known.tables.models} | {
    f'model.{name}': part.classes for name, part in known.tables.parts.items()
  }
  for path, table in tables.items():
    section = config.model if path == 'model' else config.model.get(path[6:])
    if not section or 'name' not in section or section.name not in table:
      continue
    yield f'{path}.name', f'one of {", ".join(table)}'
    yield from _of_section(path, table[section.name])
  for name, section in (config.model.get('encoders') or {}).items():
    cls = known.tables.classes().get(section.get('name'))
    if cls is not None:
      yield from _of_section(f'model.encoders.{name}', cls)
  for task in config.tasks:
    cls = known.task_table.get(task)
    for name, meaning in of_class(cls).items() if cls else ():
      yield f'tasks.{task}.{name}', meaning


def _of_section(path: str, cls: type) -> Iterator[tuple[str, str]]:
  for name, meaning in of_class(cls).items():
    yield f'{path}.{name}', meaning
    for inner, inner_meaning in _of_nested(name).items():
      yield f'{path}.{name}.{inner}', inner_meaning


def _of_nested(name: str) -> dict[str, str]:
  cls = models.NESTED.get(name)
  return of_class(cls) if cls else {}
