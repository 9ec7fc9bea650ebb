"""What settings of models and objectives mean, from their docstrings."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

from mmjax import models, objectives

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
    if base.__module__.startswith('mmjax.'):
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
  """Meanings of all settings of a config's model and objectives.

  Args:
    config: a completed config.

  Returns:
    Dotted path -> meaning, also for settings that the config does not set.
  """
  return dict(_iterate(config))


def _iterate(config: Any) -> Iterator[tuple[str, str]]:
  classes = models.classes()
  tables = {'model': models.MODELS} | {
    f'model.{name}': part.classes for name, part in models.PARTS.items()
  }
  for path, table in tables.items():
    section = config.model if path == 'model' else config.model.get(path[6:])
    if not section or 'name' not in section or section.name not in table:
      continue
    yield f'{path}.name', f'one of {", ".join(table)}'
    for name, meaning in of_class(classes[section.name]).items():
      yield f'{path}.{name}', meaning
      for inner, inner_meaning in _of_nested(name).items():
        yield f'{path}.{name}.{inner}', inner_meaning
  for objective in config.objectives:
    yield f'objectives.{objective}.weight', 'weight of its loss in the sum'
    cls = objectives.OBJECTIVES.get(objective)
    for name, meaning in of_class(cls).items() if cls else ():
      yield f'objectives.{objective}.{name}', meaning


def _of_nested(name: str) -> dict[str, str]:
  cls = models.NESTED.get(name)
  return of_class(cls) if cls else {}
