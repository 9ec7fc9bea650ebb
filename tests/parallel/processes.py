"""Trains small models on devices of several processes, and compares.

python tests/parallel/processes.py [--every] PROCESSES [OBJECTIVE ...]

Ten steps of each objective by 2 or 4 processes of two devices each, which talk
over gloo, against one process with as many devices. Each process is given its
share of the examples only. Without --every, one mesh, over which batch and
weights are split. Prints a table as it goes and, in the last line, the largest
differences as JSON.
"""

import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile

import jax
import meshes
import numpy as np

DEVICES = 2


def cases(processes: int, every: bool):
  """(mesh of all devices, style, accumulate)."""
  yield {'data': DEVICES, 'fsdp': processes}, 'pjit', 1
  if every:
    yield {'fsdp': DEVICES * processes}, 'pjit', 1
    yield {'data': DEVICES * processes}, 'pjit', 1
    yield {'data': DEVICES * processes}, 'pmap', 2
    yield {'fsdp': processes, 'tensor': DEVICES}, 'pjit', 2
    # The parts of one layer, or of one text, lie in different processes.
    yield {'data': processes // 2, 'tensor': 2, 'sequence': 2}, 'pjit', 1


def one_of(coordinator, processes, process, every, names) -> None:
  """What one of several processes does; the first writes what came out."""
  jax.distributed.initialize(coordinator, processes, process)
  for name in names:
    for i, case in enumerate(cases(processes, every)):
      got = meshes.train(name, *case)
      if process == 0:
        np.savez(f'{name}.{i}.npz', **got)


def together(processes: int, flags: list[str], folder: str) -> None:
  """Starts them and waits."""
  with socket.socket() as free:
    free.bind(('localhost', 0))
    coordinator = f'localhost:{free.getsockname()[1]}'
  started = [
    subprocess.Popen(
      [sys.executable, __file__, coordinator, str(processes), str(i), *flags],
      cwd=folder,
      env={**os.environ, 'MESHES_DEVICES': str(DEVICES)},
    )
    for i in range(processes)
  ]
  try:
    codes = [process.wait(1800) for process in started]
  finally:
    for process in started:
      process.kill()
  if any(codes):
    sys.exit(f'the processes ended with {codes}')


def main(processes: int, every: bool, names: list[str]) -> None:
  largest = {}
  with tempfile.TemporaryDirectory() as folder:
    together(processes, ['--every'] * every + names, folder)
    for name in names:
      largest[name] = 0.0
      for i, case in enumerate(cases(processes, every)):
        got = np.load(pathlib.Path(folder) / f'{name}.{i}.npz')
        found = meshes.difference(got, meshes.train(name, *case))
        largest[name] = max(largest[name], found)
        mesh, style, accumulate = case
        sizes = ' '.join(f'{axis}={n}' for axis, n in mesh.items())
        print(f'{name:12} {sizes:32} {style} x{accumulate}  {found:.1e}')
  print(json.dumps(largest))


if __name__ == '__main__':
  # The programs run for a millisecond, so compiling well doesn't pay.
  jax.config.update('jax_disable_most_optimizations', True)
  arguments = [a for a in sys.argv[1:] if a != '--every']
  every = len(arguments) < len(sys.argv) - 1
  if ':' in arguments[0]:
    processes, process = map(int, arguments[1:3])
    one_of(arguments[0], processes, process, every, arguments[3:])
  else:
    names = arguments[1:] or list(meshes.OBJECTIVES)
    main(int(arguments[0]), every, names)
