"""Fields that a user sets by flags beside `init_from`, which sets them too.

The values of a config file give way to those of the source, since a file is
written for new weights. A flag is meant for this run: what the model can do is
done, and the rest is refused, never ignored.
"""

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmjax import encoders, models
from mmjax import nn as mnn
from mmjax.config import components
from mmjax.errors import ConfigError
from mmjax.runs import conversation_inputs, init_entries

_GRID = 'position_grid'
_SIZES = ('image_size', 'size')  # Of `data`, and of its features.


def apply(
  config: Any,
  start: init_entries.InitEntry,
  described: dict[str, Any],
  settings: Sequence[tuple[str, Any]],
  flags: Collection[str],
) -> list[tuple[str, Any]]:
  """Obeys flags that the source's model can obey.

  An image encoder gets another `position_grid`, whose table has as many rows,
  and images of another size if it reads those of any.

  Args:
    config: the run's, with what flags set.
    start: what is taken from a source.
    described: settings of that part of the model; they get the grid.
    settings: settings of `data` that come with the part, by their path.
    flags: paths of the fields that flags set.

  Returns:
    `settings`, without those that the flags' values replace.
  """
  for path in flags:
    section, _, name = path.rpartition('.')
    part = _find_part(start, described, section)
    if name == _GRID and part is not None:
      part[_GRID] = tuple(_get(config, path, models.BUILT_IN) or ()) or None
  if not _reads_any_size(described):
    return list(settings)
  return [
    (name, value)
    for name, value in settings
    if name.rpartition('.')[2] not in _SIZES or f'data.{name}' not in flags
  ]


def check(given: Any, resolved: Any, flags: Collection[str]) -> None:
  """Refuses flags whose values the source's have replaced.

  Args:
    given: the run's config before `init_from` changed it.
    resolved: the same after it.
    flags: paths of the fields that flags set.

  Raises:
    ConfigError: naming both values of each, and how to read other images.
  """
  wrong, tables = [], components.of(given).tables
  for path in sorted(set(flags)):
    wanted, have = _get(given, path, tables), _get(resolved, path, tables)
    if not _is_same(wanted, have):
      wrong.append(f'{path}={wanted!r:.200}, but {have!r:.200} comes with it')
  if not wrong:
    return
  way_out = 'leave out these flags'
  if any(line.partition('=')[0].split('.')[-1] in _SIZES for line in wrong):
    way_out += (
      '; for images of another size, also set position_grid of the image '
      'encoder to the rows and columns of patches of its own size, '
      f'{_describe_grid(resolved)}, which resizes its positions'
    )
  raise ConfigError(
    f'init_from={given.init_from!r} sets fields that flags set otherwise:\n  '
    + '\n  '.join(wrong)
    + f'\n{way_out}'
  )


def _describe_grid(resolved: Any) -> str:
  """The flag with the position_grid of the source's image encoder."""
  flag = '--config.model.image.position_grid='
  size = resolved.data.get('image_size')
  for part in _iterate_image_encoders(resolved.model.to_dict()):
    if isinstance(part.get('patch_size'), int) and size:
      sides = (size, size) if isinstance(size, int) else size
      rows, columns = (side // part['patch_size'] for side in sides)
      return f'{flag}"({rows}, {columns})"'
  return f'such as {flag}"(14, 14)"'


def can_share(name: str, one: Any, other: Any) -> bool:
  """Whether two values of a setting of `data` agree, for two parts of a model.

  Args:
    name: path of the setting in `data`.
    one: a value.
    other: another.
  """
  if name.endswith(('length', 'seconds')):
    return True  # The latter is already the least.
  if name == 'tokenizer' and 'bytes' not in (one, other):
    return Path(one).read_bytes() == Path(other).read_bytes()
  return one == other


def _find_part(
  start: init_entries.InitEntry, described: dict[str, Any], section: str
) -> dict[str, Any] | None:
  """The settings, of those of a source, of a section of the config."""
  inside = section.removeprefix(start.path)
  if not section.startswith(start.path) or inside[:1] not in ('', '.'):
    return None
  for name in filter(None, inside.split('.')):
    described = described.get(name)
    if not isinstance(described, dict):
      return None
  return described


def _reads_any_size(described: Mapping[str, Any]) -> bool:
  """Whether a model, or an encoder, reads images of other sizes too."""
  if conversation_inputs.is_interleaved(described):
    return False  # Its texts have a placeholder for each token of an image.
  found = list(_iterate_image_encoders(described))
  return bool(found) and all(
    part['name'] != 'vit'
    or part.get('positions', 'learned') != 'learned'
    or part.get(_GRID)
    for part in found
  )


def _iterate_image_encoders(
  described: Mapping[str, Any],
) -> Iterator[Mapping[str, Any]]:
  if described.get('name') in encoders.ENCODERS['image']:
    yield described
  for value in described.values():
    if isinstance(value, Mapping):
      yield from _iterate_image_encoders(value)


def _get(config: Any, path: str, tables: models.Tables) -> Any:
  """A field's value; where a section leaves it out, its default."""
  *parents, name = path.split('.')
  section = config
  for parent in parents:
    section = section.get(parent) if hasattr(section, 'get') else None
  if not hasattr(section, 'get'):
    return None
  if name in section:
    value = section[name]
    return value.to_dict() if hasattr(value, 'to_dict') else value
  chosen = section.get('name')
  if parents[-1:] == ['block']:
    defaults = {f.name: f.default for f in dataclasses.fields(mnn.Block)}
  elif isinstance(chosen, str) and chosen in tables.classes():
    defaults = models.settings_of(chosen, tables)
  else:
    defaults = {}
  return defaults.get(name)


def _is_same(one: Any, other: Any) -> bool:
  """Whether two values of a field mean the same: (9, 9) is a size of 9."""
  is_list = [isinstance(value, list | tuple) for value in (one, other)]
  if is_list == [True, False]:
    return _is_same(other, one)
  if is_list == [False, True]:
    return all(one == side for side in other)
  return tuple(one) == tuple(other) if all(is_list) else one == other
