"""Keeps the memory of a training step on a CPU between steps, in huge pages."""

import ctypes
import importlib.metadata
import importlib.util
import os
import platform
import sys

import jax

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
# Of Linux' asm-generic/mman-common.h.
_MADV_HUGEPAGE = 14
_PAGE = 2 << 20


def keep_memory(fraction: float = 0.5) -> bool:
  """Makes malloc keep freed memory, in huge pages; for Linux with glibc.

  A training step on a CPU allocates and frees its gigabytes of temporary arrays
  again. By default, glibc returns them to the kernel, which clears each page of
  4 KiB again at the next step. Here all threads share one heap, which never
  shrinks; its first part is reserved as addresses, without memory, in huge
  pages.

  To be called before JAX starts its threads, with its first array or question
  for devices: threads that are there keep heaps of their own.

  Args:
    fraction: size of that part, as a fraction of the machine's memory.

  Returns:
    Whether it was done: False where JAX may compute on another device (unless
    JAX_PLATFORMS=cpu), on other systems, where the environment's GLIBC_TUNABLES
    sets malloc, and where the kernel refuses the reservation or huge pages.
  """
  if sys.platform != 'linux' or platform.libc_ver()[0] != 'glibc':
    return False
  if 'GLIBC_TUNABLES' in os.environ or not _is_for_cpus():
    return False
  libc = ctypes.CDLL(None)
  libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
  libc.malloc.argtypes = [ctypes.c_size_t]
  libc.free.argtypes = [ctypes.c_void_p]
  libc.sbrk.argtypes = [ctypes.c_ssize_t]
  libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
  libc.mallopt(_MMAP_MAX, 0)
  libc.mallopt(_TRIM_THRESHOLD, -1)
  libc.mallopt(_ARENA_MAX, 1)
  memory = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
  block = libc.malloc(int(fraction * memory))
  if block is None:
    return False
  first = -(-block // _PAGE) * _PAGE
  end = libc.sbrk(0)
  is_heap = first < end
  done = is_heap and libc.madvise(first, end - first, _MADV_HUGEPAGE) == 0
  libc.free(block)
  return done


def _is_for_cpus() -> bool:
  """Whether JAX has only CPUs to compute on, without starting its threads."""
  platforms = jax.config.jax_platforms
  if platforms:
    return platforms == 'cpu'
  plugins = importlib.metadata.entry_points(group='jax_plugins')
  return not plugins and importlib.util.find_spec('libtpu') is None
