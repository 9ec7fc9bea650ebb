"""Prepares the data sets that mmjax brings: `prepare('shapes')`."""

import os
import pathlib
from collections.abc import Callable

from mmjax.data import builders, easy_vqa, records, shapes
from mmjax.errors import ConfigError

# Every name with the function that makes its builder for a data_dir.
_BUILDERS: dict[str, Callable[[str], builders.RecordBuilder]] = {
  'shapes': lambda data_dir: shapes.Shapes(data_dir=data_dir),
  'shapes/small': lambda data_dir: shapes.Shapes(
    data_dir=data_dir, config='small'
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
  """Writes one of mmjax's own data sets, unless it is there already.

  Args:
    name: one of `NAMES`.
    data_dir: where data sets live; by default `records.default_data_dir()`.
    progress: whether to show a progress line on stderr.

  Returns:
    The folder of the version, which holds `dataset_info.json`.

  Raises:
    ConfigError: there is no data set of that name.
    ConfigError: the package that it is made from isn't installed.
  """
  if name not in _BUILDERS:
    raise ConfigError(
      f'there is no data set {name!r} to prepare; use one of '
      f'{", ".join(NAMES)}, or `mmjax data import` for your own data'
    )
  data_dir = data_dir or records.default_data_dir()
  return builders.build(_BUILDERS[name], data_dir, progress=progress)
