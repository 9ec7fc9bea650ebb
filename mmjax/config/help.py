"""What --help prints: flags and config fields."""

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any

import ml_collections

from mmjax import models, objectives
from mmjax.config import meanings, overrides, schema


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
      model, parts and objectives that it doesn't set; None for no config.
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
  if config is not None:
    known = meanings.of_config(config)
    show = lambda path, value: f'  {path}={value!r}  {known.get(path, "")}'
    lines += ['', 'Values of this config:', '']
    lines += [
      show(path, config[path]).rstrip()
      for path in overrides.paths(config)
      if not isinstance(config[path], ml_collections.ConfigDict)
    ]
    lines += ['', 'Further settings of its model and objectives:', '']
    lines += [show(path, default).rstrip() for path, default in _unset(config)]
  return '\n'.join(lines)


def _unset(config: ml_collections.ConfigDict) -> Iterator[tuple[str, Any]]:
  """(path, default) of each setting of model and objectives not in a config."""
  there = set(overrides.paths(config))
  for part in ('model', *(f'model.{part}' for part in models.PARTS)):
    section = config[part] if part in there else None
    if not section or 'name' not in section:
      continue
    for name, default in models.settings_of(section.name).items():
      if name not in section and default is not dataclasses.MISSING:
        yield f'{part}.{name}', default
  for objective, section in config.objectives.items():
    cls = objectives.OBJECTIVES.get(objective)
    if cls is None:
      continue
    known = inspect.signature(cls).parameters
    defaults = {name: known[name].default for name in known} | {'weight': 1.0}
    for name in sorted(defaults.keys() - {*section}):
      yield f'objectives.{objective}.{name}', defaults[name]
