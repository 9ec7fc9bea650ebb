"""What `--workdir` may be: a folder of a file system, or a path for one."""

import re
from pathlib import Path

from mmjax.errors import ConfigError

# One letter before the colon is a disk.
_URL = re.compile(r'[a-z][a-z0-9]+:/', re.IGNORECASE)


def check(path: Path | str) -> None:
  """Refuses a path that can't be a run's or a sweep's folder; makes nothing.

  Raises:
    ConfigError: if the path is a URL, or the path or one of its parents is a
      file.
  """
  if _URL.match(str(path)):
    raise ConfigError(
      f'--workdir={path} is a URL, and a folder is needed; mount the bucket '
      '(Cloud Storage FUSE does so for gs://) and name its folder'
    )
  absolute = Path(path).absolute()
  for folder in (absolute, *absolute.parents):
    if folder.exists() and not folder.is_dir():
      part = 'is' if folder == absolute else f'lies in {folder}, which is'
      raise ConfigError(
        f'--workdir={path} {part} a file, and a folder is needed; choose '
        'another path, or move the file away'
      )
