"""Compares mmjax with the libraries that its users would otherwise take.

Each row runs both sides in turn, round after round, each in a process of its
own, and prints medians, quartiles, the ratio and the largest memory of the
processes. Both have the same architecture, batch and precision: the number of
parameters is compared, and the outputs where the weights can be the same. Where
the device's peak is known, it prints the MFU. A few rows are of mmjax alone.

  pip install -e '.[bench]'
  python -m benchmarks.run --suite=cpu
  python -m benchmarks.run --suite=cpu --only=decoding --rounds=9
  python -m benchmarks.run --suite=gpu --json=gpu.json
  python -m benchmarks.run --suite=gpu --tiny    # rehearses it, on any device
"""

import dataclasses
import datetime
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks import rows as rows_lib
from mmjax.cli import arguments
from mmjax.errors import ConfigError
from mmjax.training import main as main_lib

_SUITE = flags.DEFINE_enum('suite', 'cpu', ('cpu', 'gpu'), 'rows to run')
_ONLY = flags.DEFINE_string('only', '', 'rows whose names contain this')
_ROUNDS = flags.DEFINE_integer('rounds', 7, 'turns of each side', 1)
_TINY = flags.DEFINE_bool('tiny', False, 'tiny sizes: tests the suite itself')
_JSON = flags.DEFINE_string('json', '', 'file for the results')

_PACKAGES = (
  'jax',
  'flax',
  'torch',
  'open_clip_torch',
  'transformers',
  'faiss-cpu',
)
_ENVIRONMENT = {
  'cpu': {'JAX_PLATFORMS': 'cpu', 'CUDA_VISIBLE_DEVICES': ''},
  # The sides share the memory of the device.
  'gpu': {
    'XLA_PYTHON_CLIENT_PREALLOCATE': 'false',
    'XLA_PYTHON_CLIENT_MEM_FRACTION': '0.95',
  },
}
# Both sides compute the same in float32, in another order.
_TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True)
class Result:
  """A row's measurements.

  Attributes:
    name: the row.
    label: what is measured.
    seconds: seconds of each turn, by side; mmjax first.
    memory: bytes of the largest resident memory, by side.
    info: what each side says of itself, such as `parameters`.
  """

  name: str
  label: str
  seconds: dict[str, list[float]]
  memory: dict[str, int]
  info: dict[str, dict[str, Any]]

  def list_cells(self) -> list[str]:
    """Cells of the row's line in the table."""
    ours, *peers = self.seconds
    times = {side: self._find_time(side) for side in self.seconds}
    return [
      self.label,
      self.describe(ours),
      ', '.join(f'{peer} {self.describe(peer)}' for peer in peers) or '-',
      ', '.join(f'{times[peer] / times[ours]:.2f}' for peer in peers) or '-',
      ', '.join(f'{size / 1e9:.1f}' for size in self.memory.values()),
    ]

  def describe(self, side: str) -> str:
    """Median and quartiles in milliseconds, and what else there is to say."""
    low, middle, high = np.percentile(self.seconds[side], (25, 50, 75)) * 1e3
    parts = [f'{middle:,.0f} ms ({low:,.0f} to {high:,.0f})']
    if note := self.info[side].get('note'):
      parts.append(note)
    if (mfu := self._find_mfu(side)) is not None:
      parts.append(f'MFU {mfu:.3f}')
    return ', '.join(parts)

  def _find_time(self, side: str) -> float:
    """Median seconds, by example where sides have batches of their own."""
    examples = self.info[side].get('examples', 1)
    return statistics.median(self.seconds[side]) / examples

  def _find_mfu(self, side: str) -> float | None:
    """FLOPs that mmjax counts for an example, over what the device can do."""
    ours = next(iter(self.info.values()))
    if not ours.get('peak'):
      return None
    flops = ours['flops'] / ours['examples']
    return flops / (ours['peak'] * self._find_time(side))


class Side:
  """A process that does one side's work once for each line that it gets."""

  def __init__(self, row: str, side: str):
    """Starts it and waits until it is warm."""
    self._name = f'{row}, {side}'
    command = [sys.executable, '-m', 'benchmarks.worker', row, side]
    self._process = subprocess.Popen(
      command + ['--tiny'] * _TINY.value,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      env={**os.environ, **_ENVIRONMENT[_SUITE.value]},
    )
    self.info = self._read()

  def measure(self) -> tuple[float, int]:
    """Seconds of one turn, and the largest memory in bytes so far."""
    self._process.stdin.write('\n')
    self._process.stdin.flush()
    turn = self._read()
    return turn['seconds'], turn['memory']

  def close(self) -> None:
    """Ends the process."""
    self._process.stdin.close()
    self._process.wait()

  def _read(self) -> dict[str, Any]:
    line = self._process.stdout.readline()
    if not line:
      raise RuntimeError(
        f'{self._name} ended with code {self._process.wait()}; its error is '
        'above'
      )
    return json.loads(line)


def measure(name: str, row: rows_lib.Row, rounds: int) -> Result:
  """Measures a row: its sides in turn, or one after the other.

  Raises:
    RuntimeError: if a side fails, or the two don't compute the same.
  """
  result = Result(name, row.label, {side: [] for side in row.sides}, {}, {})
  groups = [[side] for side in row.sides] if row.alone else [list(row.sides)]
  for group in groups:
    _take_turns(result, {side: Side(name, side) for side in group}, rounds)
  return result


def _take_turns(
  result: Result, processes: dict[str, Side], rounds: int
) -> None:
  """Adds the turns of some sides to a result, and ends the processes."""
  for side, process in processes.items():
    result.info[side] = process.info
  check_same(result.name, result.info)
  for number in range(rounds):
    print(f'{result.name}: round {number + 1} of {rounds}', file=sys.stderr)
    for side, process in processes.items():
      seconds, result.memory[side] = process.measure()
      result.seconds[side].append(seconds)
  for process in processes.values():
    process.close()


def check_same(name: str, info: dict[str, dict[str, Any]]) -> None:
  """Refuses two sides that differ in parameters or outputs.

  Raises:
    RuntimeError: naming the row and the difference.
  """
  if len(info) < 2:
    return
  first, second = info.values()
  ours, theirs = first.get('parameters', 0), second.get('parameters', 0)
  if abs(ours - theirs) > 0.01 * max(ours, theirs):
    raise RuntimeError(f'{name}: {ours:,} and {theirs:,} parameters')
  if first.get('output') and second.get('output'):
    gap = np.abs(np.subtract(first['output'], second['output'])).max()
    if gap > _TOLERANCE:
      raise RuntimeError(f'{name}: the outputs differ by {gap:.2g}')


def make_table(results: Sequence[Result]) -> str:
  """The table of docs/performance.md."""
  lines = [
    '| work | mmjax | peer | times as fast | memory, GB |',
    '|---|---|---|---|---|',
  ]
  for result in results:
    lines.append(f'| {" | ".join(result.list_cells())} |')
  return '\n'.join(lines)


def describe_machine() -> dict[str, Any]:
  """Device, versions and date, for the results."""
  versions = {}
  for package in _PACKAGES:
    try:
      versions[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      versions[package] = None
  cpu = platform.processor() or platform.machine()
  info = pathlib.Path('/proc/cpuinfo')
  if info.exists():
    names = [s for s in info.read_text().splitlines() if 'model name' in s]
    cpu = names[0].partition(':')[2].strip() if names else cpu
  return {
    'cpu': cpu,
    'cores': len(os.sched_getaffinity(0)),
    'versions': versions,
    'date': datetime.date.today().isoformat(),
  }


def main(argv):
  """Measures the rows and prints the table."""
  with main_lib.reporting():
    _measure_all(argv)


def _choose_rows(argv: Sequence[str]) -> dict[str, rows_lib.Row]:
  """The rows of the flags.

  Raises:
    ConfigError: if a flag is wrong, or a library is missing.
  """
  if len(argv) > 1:
    raise ConfigError(f'{argv[1]!r} is not a flag')
  suite = {
    name: row
    for name, row in rows_lib.ROWS.items()
    if _SUITE.value in row.suites
  }
  rows = {name: row for name, row in suite.items() if _ONLY.value in name}
  if not rows:
    raise ConfigError(
      f'--only={_ONLY.value}: no row of --suite={_SUITE.value} has this in its '
      f'name; there are {", ".join(suite)}'
    )
  for name, row in rows.items():
    for side in row.sides:
      package = side.split(',')[0]
      if importlib.util.find_spec(package) is None:
        raise ConfigError(
          f'the row {name} needs {package}; pip install -e ".[bench]", or '
          'choose other rows with --only'
        )
  if _JSON.value:
    arguments.check_output_file(f'--json={_JSON.value}', _JSON.value)
  return rows


def _measure_all(argv: Sequence[str]) -> None:
  rows, results = _choose_rows(argv), []
  for name, row in rows.items():
    results.append(measure(name, row, _ROUNDS.value))
    print(make_table(results[-1:]).splitlines()[-1], file=sys.stderr)
    if _JSON.value:
      content = [dataclasses.asdict(result) for result in results]
      pathlib.Path(_JSON.value).write_text(
        json.dumps({**describe_machine(), 'rows': content}, indent=2)
      )
  machine = describe_machine()
  versions = ', '.join(
    f'{name} {version}' for name, version in machine['versions'].items()
  )
  devices = {
    side['device']
    for result in results
    for side in result.info.values()
    if side.get('device', 'cpu') != 'cpu'
  }
  cores = f'{machine["cores"]} cores of {machine["cpu"]}'
  print(f'{", ".join([*sorted(devices), cores])}, {machine["date"]}')
  print(f'{versions}\n\n{make_table(results)}')


if __name__ == '__main__':
  app.run(main)
