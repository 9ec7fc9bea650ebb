"""How long it took from the command to the first step, and where it went."""

import itertools
import os
import time
from pathlib import Path

import jax

_IMPORTED = time.time()


def process_start() -> float:
  """When this process began, in seconds since the epoch.

  Read from Linux' /proc; elsewhere the time of importing this module, which
  leaves out what was imported before.
  """
  try:
    # Field 22 of stat, counted after the command's name, which may hold blanks.
    stat = Path('/proc/self/stat').read_text().rpartition(')')[2].split()
    ticks = int(stat[19]) / os.sysconf('SC_CLK_TCK')
    uptime = float(Path('/proc/uptime').read_text().split()[0])
    return time.time() - (uptime - ticks)
  except (OSError, ValueError, IndexError):
    return _IMPORTED


def use_compilation_cache() -> Path:
  """Keeps compiled programs between processes.

  In the folder that the environment's MMJAX_CACHE_DIR names, else in
  ~/.cache/mmjax/xla.
  """
  folder = os.environ.get('MMJAX_CACHE_DIR')
  folder = Path(folder) if folder else Path.home() / '.cache/mmjax/xla'
  folder.mkdir(parents=True, exist_ok=True)
  jax.config.update('jax_compilation_cache_dir', str(folder))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)
  return folder


_starts = itertools.chain((process_start(),), iter(time.time, None))


class Clock:
  """Splits the time since the command was given into named parts.

  The first clock counts from the process's begin, any later one, of a further
  run in the same process, from when it is made.
  """

  def __init__(self):
    self._begun = self._last = next(_starts)
    self.parts: dict[str, float] = {}

  def lap(self, name: str) -> None:
    """Books the time since the last lap under `name`."""
    now = time.time()
    self.parts[name] = self.parts.get(name, 0.0) + now - self._last
    self._last = now

  def report(self) -> dict[str, float]:
    """Seconds by part, and their sum as startup/total."""
    parts = {f'startup/{name}': s for name, s in self.parts.items()}
    return parts | {'startup/total': self._last - self._begun}

  def __str__(self) -> str:
    parts = ', '.join(f'{name} {s:.1f}' for name, s in self.parts.items())
    return f'first step after {self._last - self._begun:.1f} s ({parts})'
