"""Prepares the built-in data sets: `prepare('shapes')`."""

import os
import pathlib
from collections.abc import Callable

from mmjax.data import builders, easy_vqa, records, shapes, shapes_senses
from mmjax.errors import ConfigError, suggest

# For each name, the function that makes its builder for a data_dir.
_BUILDERS: dict[str, Callable[[str], builders.RecordBuilder]] = {
  'shapes': lambda data_dir: shapes.Shapes(data_dir=data_dir),
  'shapes/small': lambda data_dir: shapes.Shapes(
    data_dir=data_dir, config='small'
  ),
  'shapes_senses': lambda data_dir: shapes_senses.ShapesSenses(
    data_dir=data_dir
  ),
  'easy_vqa': lambda data_dir: easy_vqa.EasyVqa(data_dir=data_dir),
}

NAMES = tuple(_BUILDERS)


def prepare(
  name: str,
  data_dir: str | os.PathLike | None = None,
  *,
  progress: bool = True,
) -> pathlib.Path:
  """Writes a built-in data set, unless it exists already.

  Args:
    name: one of `NAMES`.
    data_dir: folder of all data sets; by default
      `records.get_default_data_dir()`.
    progress: whether to show a progress line on stderr.

  Returns:
    The folder of the version, with its `dataset_info.json`.

  Raises:
    ConfigError: if no built-in data set has this name, or the package that it
      is made from isn't installed.
  """
  if name not in _BUILDERS:
    raise ConfigError(
      f'there is no data set {name!r} to prepare; use one of '
      f'{", ".join(NAMES)}, or `mmjax data import` for your own data'
      f'{suggest(name, NAMES)}'
    )
  data_dir = data_dir or records.get_default_data_dir()
  return builders.build(_BUILDERS[name], data_dir, progress=progress)
