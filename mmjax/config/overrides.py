"""Configs from files, and overrides of their fields by flags."""

import contextlib
import inspect
import re
from collections.abc import Sequence
from typing import Any

import ml_collections

from mmjax import presets
from mmjax.config import fields, flag_values, schema, settings, user_file
from mmjax.errors import ConfigError

# Whose names a config chooses, as in `model`.
_FEATURES = ['data', 'features']
_OVERRIDE = re.compile(r'--?(no)?config\.([^=]+)(?:=(.*))?', re.DOTALL)


def split(
  argv: Sequence[str],
) -> tuple[list[str], list[tuple[str, str]]]:
  """Parts `--config.a.b=value` from the other arguments.

  As in ml_collections: the value may also be the next argument, and
  `--config.a`, `--noconfig.a` are true and false.

  >>> split(['x', '--config=c.py', '--config.train.steps=3'])
  (['x', '--config=c.py'], [('train.steps', '3')])
  """
  rest, found, i = [], [], 0
  while i < len(argv):
    match = _OVERRIDE.fullmatch(argv[i])
    i += 1
    if argv[i - 1] == '--':
      return rest + list(argv[i - 1 :]), found
    if match is None:
      rest.append(argv[i - 1])
      continue
    no, path, value = match.groups()
    if no:
      value = 'false'
    elif value is None and i < len(argv) and not re.match('--?[a-z]', argv[i]):
      value, i = argv[i], i + 1
    found.append((path, 'true' if value is None else value))
  return rest, found


def load(location: str) -> ml_collections.ConfigDict:
  """Runs `get_config` of a config file and fills in the defaults.

  Args:
    location: 'FILE.py', or 'FILE.py:ARGUMENT' where get_config takes one.

  Raises:
    ConfigError: if there is no such file, or its get_config can't be called so.
  """
  file, has_argument, argument = location.partition(':')
  get_config = user_file.function(file, 'get_config', flag='config')
  if has_argument and not inspect.signature(get_config).parameters:
    raise ConfigError(
      f'--config={location}: its get_config takes no argument; leave out '
      f'":{argument}"'
    )
  with user_file.naming(file, 'config'):
    config = get_config(argument) if has_argument else get_config()
  if not hasattr(config, 'items'):
    raise ConfigError(
      f'--config={location}: get_config returned {config!r}, not a config'
    )
  return settings.complete(config)


def override(
  config: ml_collections.ConfigDict, overrides: Sequence[tuple[str, str]]
) -> None:
  """Sets fields of a completed config by their dotted paths.

  A value is read by the type that the field has: `--config.train.steps=300`,
  `--config.optimizer.freeze="('image/',)"` (also `image/,text/`). An image
  encoder may be the name of a preset, `--config.model.image=vit-b16`. Sections
  `model`, `tasks` and `data.features`, and an experiment's own sections, may be
  given fields that the file leaves out; the experiment's `build` refuses those
  it doesn't know.

  Raises:
    ConfigError: if there is no such field, or the value is not of its type.
  """
  with config.unlocked():
    for path, text in overrides:
      _override(config, path, text)


def _override(config: ml_collections.ConfigDict, path: str, text: str) -> None:
  section, name, field = find(config, path)
  value = flag_values.read(text, field)
  if isinstance(value, str) and presets.is_part(path):
    value = ml_collections.ConfigDict(presets.expand_part(path, value))
  if not field.accepts(value):
    raise ConfigError(
      f'--config.{path}={text} is not legal: {path} is {field.explain(value)}'
    )
  if name in section:
    del section[name]  # Another type is legal here, say None for a number.
  section[name] = value


def find(
  config: ml_collections.ConfigDict, path: str
) -> tuple[ml_collections.ConfigDict, str, fields.Field]:
  """The section that holds a field, the field's name there, and its kind.

  Args:
    config: a completed config; a dict of a model's part that it lacks is added.
    path: dotted, such as 'model.image.width'.

  Raises:
    ConfigError: if there is no such field.
  """
  *parents, name = path.split('.')
  section = config
  for depth, parent in enumerate(parents):
    child = section.get(parent) if hasattr(section, 'get') else None
    is_part = depth > 1 and parents[0] in schema.OPEN_SECTIONS
    if child is None and (is_part or parents[: depth + 1] == _FEATURES):
      # A dict that the part has, such as `block`, though not the config. The
      # part refuses it if it hasn't.
      child = section[parent] = ml_collections.ConfigDict()
    if not isinstance(child, ml_collections.ConfigDict):
      raise ConfigError(settings.unknown(path, paths(config)))
    section = child
  if parents[:2] == ['data', 'mixture'] and len(parents) < 4:
    return section, name, _find_in_mixture(path)
  open_section = parents and (
    parents[0] not in schema.SECTIONS or parents[:2] == _FEATURES
  )
  if name not in section and not open_section:
    raise ConfigError(settings.unknown(path, paths(config)))
  if len(parents) == 1:
    field = schema.SECTIONS.get(parents[0], {}).get(name)
  else:
    field = None if parents else schema.TOP.get(name)
  return section, name, _like(section.get(name)) if field is None else field


def _find_in_mixture(path: str) -> fields.Field:
  """The kind of a source of `data.mixture`, or of one of its fields.

  Args:
    path: 'data.mixture.SOURCE' or 'data.mixture.SOURCE.FIELD'.
  """
  *_, source, name = path.split('.')
  if source == 'mixture':
    return fields.Field('dict', None, 'a source', optional=True)
  if name not in schema.SOURCE:
    above = path.rpartition('.')[0]
    known = [f'{above}.{n}' for n in schema.SOURCE]
    raise ConfigError(settings.unknown(path, known))
  return schema.SOURCE[name]


def suggest(flag: str, location: str | None = None) -> str:
  """Flags of the config fields whose last name is that of an unknown flag.

  Args:
    flag: flag, such as '--batch_size'.
    location: value of --config, whose own fields are searched too; None, or
      one that can't be loaded, for those that every config has.

  Returns:
    Such as '--config.train.batch_size or --config.eval.batch_size'; '' if no
    field has a similar name.
  """
  config = settings.default_config()
  if location:
    with contextlib.suppress(ConfigError):
      config = load(location)
  name = flag.lstrip('-').partition('=')[0]
  close = settings.near(name, paths(config))
  return ' or '.join(f'--config.{path}' for path in close)


def paths(config: ml_collections.ConfigDict, prefix: str = '') -> list[str]:
  """Dotted paths of all sections and fields of a config."""
  out = []
  for name, value in config.items():
    out.append(prefix + name)
    if isinstance(value, ml_collections.ConfigDict):
      out += paths(value, f'{prefix}{name}.')
  return out


def _like(value: Any) -> fields.Field:
  """The field that a value in an open section stands for.

  Whether a number must be whole, the model or task says: a config may
  write 1 where 0.5 is as legal.
  """
  kinds = {bool: 'bool', int: 'number', float: 'float', str: 'str'}
  kind = kinds.get(type(value), 'plain')
  if isinstance(value, ml_collections.ConfigDict):
    kind = 'dict'
  return fields.Field(kind, value, '', optional=True)
