"""Compares mmjax with the libraries that its users would otherwise take.

Each row runs both sides in turn, round after round, each in a process of its
own, and prints medians, quartiles and the ratio. Both have the same
architecture, batch and precision: the number of parameters is compared, and the
outputs where the weights can be the same.

  pip install -e '.[bench]'
  python -m benchmarks.run --suite=cpu
  python -m benchmarks.run --suite=cpu --only=decoding --rounds=9
  python -m benchmarks.run --suite=gpu --json=gpu.json
  python -m benchmarks.run --suite=gpu --tiny    # rehearses it, on any device
"""

import dataclasses
import datetime
import importlib.metadata
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

_SUITE = flags.DEFINE_enum('suite', 'cpu', ('cpu', 'gpu'), 'rows to run')
_ONLY = flags.DEFINE_string('only', '', 'rows whose names contain this')
_ROUNDS = flags.DEFINE_integer('rounds', 7, 'turns of each side', 1)
_TINY = flags.DEFINE_bool('tiny', False, 'tiny sizes: tests the suite itself')
_JSON = flags.DEFINE_string('json', '', 'file for the results')

_PACKAGES = ('jax', 'flax', 'torch', 'open_clip_torch', 'transformers')
_ENVIRONMENT = {
  'cpu': {'JAX_PLATFORMS': 'cpu', 'CUDA_VISIBLE_DEVICES': ''},
  'gpu': {},
}
# Both sides compute the same in float32, in another order.
_TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True)
class Result:
  """A row's measurements.

  Attributes:
    name: the row.
    label: what is measured.
    seconds: seconds of each turn, by side.
    info: what each side says of itself, such as `parameters`.
  """

  name: str
  label: str
  seconds: dict[str, list[float]]
  info: dict[str, dict[str, Any]]

  def list_cells(self) -> list[str]:
    """Cells of the row's line in the table."""
    ours, peer = self.seconds
    medians = {
      side: statistics.median(values) for side, values in self.seconds.items()
    }
    return [
      self.label,
      self.describe(ours),
      f'{peer} {self.describe(peer)}',
      f'{medians[peer] / medians[ours]:.2f}',
    ]

  def describe(self, side: str) -> str:
    """Median and quartiles in milliseconds."""
    low, middle, high = np.percentile(self.seconds[side], (25, 50, 75)) * 1e3
    return f'{middle:.0f} ms ({low:.0f} to {high:.0f})'


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

  def measure(self) -> float:
    """Seconds of one turn."""
    self._process.stdin.write('\n')
    self._process.stdin.flush()
    return self._read()['seconds']

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
  """Measures a row: both sides in turn.

  Raises:
    RuntimeError: if a side fails, or the two don't compute the same.
  """
  sides = {side: Side(name, side) for side in row.sides}
  _check_same(name, {side: process.info for side, process in sides.items()})
  seconds = {side: [] for side in sides}
  for number in range(rounds):
    print(f'{name}: round {number + 1} of {rounds}', file=sys.stderr)
    for side, process in sides.items():
      seconds[side].append(process.measure())
  for process in sides.values():
    process.close()
  info = {side: process.info for side, process in sides.items()}
  return Result(name, row.label, seconds, info)


def _check_same(name: str, info: dict[str, dict[str, Any]]) -> None:
  """Refuses sides that differ in parameters or outputs."""
  first, second = info.values()
  ours, theirs = first.get('parameters', 0), second.get('parameters', 0)
  if abs(ours - theirs) > 0.01 * max(ours, theirs):
    raise RuntimeError(f'{name}: {ours:,} and {theirs:,} parameters')
  if 'output' in first and 'output' in second:
    gap = np.abs(np.subtract(first['output'], second['output'])).max()
    if gap > _TOLERANCE:
      raise RuntimeError(f'{name}: the outputs differ by {gap:.2g}')


def make_table(results: Sequence[Result]) -> str:
  """The table of docs/performance.md."""
  lines = ['| work | mmjax | peer | times as fast |', '|---|---|---|---|']
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
  if len(argv) > 1:
    raise app.UsageError(f'{argv[1]!r} is not a flag')
  suite = {
    name: row
    for name, row in rows_lib.ROWS.items()
    if _SUITE.value in row.suites
  }
  rows = {name: row for name, row in suite.items() if _ONLY.value in name}
  if not rows:
    raise app.UsageError(
      f'--only={_ONLY.value}: no row of --suite={_SUITE.value} has this in its '
      f'name; there are {", ".join(suite)}'
    )
  if not pathlib.Path(_JSON.value).absolute().parent.is_dir():
    raise app.UsageError(f'--json={_JSON.value}: its folder does not exist')
  results = []
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
  print(f'{machine["cores"]} cores of {machine["cpu"]}, {machine["date"]}')
  print(f'{versions}\n\n{make_table(results)}')


if __name__ == '__main__':
  app.run(main)
