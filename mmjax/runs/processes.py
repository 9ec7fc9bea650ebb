"""Which process is which, as others can check."""

import os
from pathlib import Path


def machine() -> str:
  """Names what process numbers are unique in; '' where that isn't known."""
  try:
    boot = Path('/proc/sys/kernel/random/boot_id').read_text().strip()
    return f'{boot} {os.readlink("/proc/self/ns/pid")}'
  except OSError:
    return ''


def started(process: int) -> int | None:
  """When a process began, in clock ticks since boot; None if it has ended."""
  try:
    stat = Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()
  except OSError:
    return None
  # The first is the state: a zombie does nothing any more.
  return None if stat[0] == 'Z' else int(stat[19])
