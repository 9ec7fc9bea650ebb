"""What --help prints: flags and config fields."""

import dataclasses
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import ml_collections

from mmjax import models, presets, types
from mmjax.config import components, meanings, overrides, schema


def text(
  experiment: str,
  flags: str,
  config: ml_collections.ConfigDict | None = None,
) -> str:
  """The experiment, the flags and every config field.

  Args:
    experiment: docstring of the experiment file.
    flags: description of the flags.
    config: a config to show with its own values, and with the defaults of its
      model, parts and tasks that it doesn't set; None for no config.
  """
  fields = {'': schema.TOP, **schema.SECTIONS}
  lines = [experiment.strip(), '', 'Flags:', flags]
  lines.append('Config fields, their defaults and meanings:')
  for section, of_section in fields.items():
    lines.append('')
    for name, field in of_section.items():
      path = f'{section}.{name}' if section else name
      choices = f' ({" | ".join(field.choices)})' if field.choices else ''
      lines.append(f'  {path}={field.default!r}  {field.meaning}{choices}')
  names = components.BUILT_IN if config is None else components.of(config)
  lines += ['', 'Names that `model` and `tasks` can have:', '']
  lines += [f'  {path}  {", ".join(legal)}' for path, legal in _names(names)]
  if config is None:
    lines.append(
      '  With --config=FILE, --help also lists the settings of the model, its '
      'parts and its tasks, with their meanings.'
    )
  else:
    known = meanings.of_config(config)
    show = lambda path, value: f'  {path}={value!r}  {known.get(path, "")}'
    lines += ['', 'Values of this config:', '']
    lines += [
      show(path, config[path]).rstrip()
      for path in overrides.paths(config)
      if not isinstance(config[path], ml_collections.ConfigDict)
    ]
    lines += ['', 'Further settings of its model and tasks:', '']
    lines += [show(path, default).rstrip() for path, default in _unset(config)]
  return '\n'.join(lines)


def _names(known: components.Components) -> Iterator[tuple[str, Iterable[str]]]:
  """(path, legal names) of the model, its parts and the tasks."""
  yield 'model.name', known.tables.models
  for part, described in known.tables.parts.items():
    sizes = presets.PRESETS if presets.is_part(f'model.{part}') else ()
    yield f'model.{part}.name', (*described.classes, *sizes)
  yield 'tasks', known.task_table


def _unset(config: ml_collections.ConfigDict) -> Iterator[tuple[str, Any]]:
  """(path, default) of each setting of model and tasks not in a config."""
  there = set(overrides.paths(config))
  known = components.of(config)
  parts = (f'model.{part}' for part in known.tables.parts)
  for part in ('model', *parts):
    section = config[part] if part in there else None
    if not section or 'name' not in section:
      continue
    for name, default in models.settings_of(section.name, known.tables).items():
      if name not in section and default is not dataclasses.MISSING:
        yield f'{part}.{name}', default
      inner = models.NESTED.get(name)
      if inner is not None:
        given = {*(section.get(name) or {}), *models.NESTED_DERIVED[name]}
        yield from _unset_inside(f'{part}.{name}', inner, given)
  for task, section in config.tasks.items():
    if task not in known.task_table:
      continue
    cls = known.task_table[task]
    defaults = {field.name: field.default for field in dataclasses.fields(cls)}
    for name in sorted(types.list_field_info(cls).keys() - {*section}):
      yield f'tasks.{task}.{name}', defaults[name]


def _unset_inside(
  path: str, cls: type, given: Collection[str]
) -> Iterator[tuple[str, Any]]:
  """(path, default) of each setting of a dict, such as `block`, not given."""
  for field in dataclasses.fields(cls):
    is_setting = field.init and field.name not in ('parent', 'name', 'dtype')
    is_free = field.default is not dataclasses.MISSING
    if is_setting and is_free and field.name not in given:
      yield f'{path}.{field.name}', field.default
