"""Memory that is kept between steps."""

import platform
import subprocess
import sys

import pytest

_PROGRAM = """
from mmjax.training import allocator
print(allocator.keep_memory(fraction=0.05))
block = b'x' * (100 << 20)  # Above the threshold of mmap.
middle = id(block) + (50 << 20)
in_heap = False
for line in open('/proc/self/smaps'):
  first, _, rest = line.partition('-')
  if ' ' in rest and all(c in '0123456789abcdef' for c in first):
    last = rest.split()[0]
    in_heap = int(first, 16) <= middle < int(last, 16)
    name = line.split()[-1]
  elif in_heap and line.startswith('VmFlags'):
    print(name, 'hg' in line.split())
del block
size = [s for s in open('/proc/self/status') if s.startswith('VmRSS')][0]
print(int(size.split()[1]) > 100 << 10)
"""


@pytest.mark.skipif(
  sys.platform != 'linux' or platform.libc_ver()[0] != 'glibc',
  reason='glibc on Linux',
)
def test_memory_is_kept_in_huge_pages():
  run = subprocess.run(
    [sys.executable, '-c', _PROGRAM],
    capture_output=True,
    text=True,
    check=True,
    env={'JAX_PLATFORMS': 'cpu'},
  )
  assert run.stdout.split() == ['True', '[heap]', 'True', 'True']


def test_malloc_stays_as_the_environment_sets_it():
  run = subprocess.run(
    [
      sys.executable,
      '-c',
      'from mmjax.training import allocator; print(allocator.keep_memory())',
    ],
    capture_output=True,
    text=True,
    check=True,
    env={'JAX_PLATFORMS': 'cpu', 'GLIBC_TUNABLES': 'glibc.malloc.arena_max=4'},
  )
  assert run.stdout.split() == ['False']
