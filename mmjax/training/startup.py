"""Time from the command to the first step, by its parts."""

import os
import tempfile
import time
from pathlib import Path

import jax

from mmjax.parallel import hosts


def process_start() -> float | None:
  """When this process began, in seconds since the epoch; None if unknown.

  Read from Linux' /proc.
  """
  try:
    # Field 22 of stat, counted after the command's name, which may hold blanks.
    stat = Path('/proc/self/stat').read_text().rpartition(')')[2].split()
    ticks = int(stat[19]) / os.sysconf('SC_CLK_TCK')
    uptime = float(Path('/proc/uptime').read_text().split()[0])
    return time.time() - (uptime - ticks)
  except (OSError, ValueError, IndexError):
    return None


def use_compilation_cache() -> Path:
  """Keeps compiled programs between processes.

  In the folder that the environment's MMJAX_CACHE_DIR names, else in
  ~/.cache/mmjax/xla. Says so if it can't be written.
  """
  folder = os.environ.get('MMJAX_CACHE_DIR')
  folder = Path(folder) if folder else Path.home() / '.cache/mmjax/xla'
  try:
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()
  except OSError as error:
    hosts.log(
      f'compiled programs are not kept, since {folder} cannot be written '
      f'({error.strerror}); set MMJAX_CACHE_DIR to a folder that can'
    )
    return folder
  jax.config.update('jax_compilation_cache_dir', str(folder))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)
  return folder


class Timer:
  """Splits the time since the start of the process into named parts.

  A further timer, of another run in the same process, counts from its own
  creation; so does the first where the start of the process is unknown.
  """

  _is_first = True

  def __init__(self):
    start = process_start() if Timer._is_first else None
    Timer._is_first = False
    self._start = self._last = time.time() if start is None else start
    self.parts: dict[str, float] = {}

  def lap(self, name: str) -> None:
    """Adds the time since the last lap to the part `name`."""
    now = time.time()
    self.parts[name] = self.parts.get(name, 0.0) + now - self._last
    self._last = now

  def report(self) -> dict[str, float]:
    """Seconds by part, and their sum as startup/total."""
    parts = {f'startup/{name}': s for name, s in self.parts.items()}
    return parts | {'startup/total': self._last - self._start}

  def __str__(self) -> str:
    parts = ', '.join(f'{name} {s:.1f}' for name, s in self.parts.items())
    return f'first step after {self._last - self._start:.1f} s ({parts})'
