"""Searches for the mesh, remat policy and batch size of the fastest step."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax

from mmjax import models
from mmjax.config import components, settings
from mmjax.errors import ConfigError
from mmjax.nn import remat as remat_lib
from mmjax.planning import report, step
from mmjax.training import flops
from mmjax.training.experiment import Experiment

# Without 'offload': estimates don't include the way to the host's memory.
REMATS = ('none', *(name for name in remat_lib.POLICIES if name != 'offload'))


@dataclasses.dataclass(frozen=True)
class Choice:
  """One mesh, remat policy and batch size to compile the step with.

  Attributes:
    mesh: size by axis.
    remat: remat policy of all stacks of the model; None if the model has no
      stacks.
    per_chip: examples per chip.
  """

  mesh: dict[str, int]
  remat: str | None
  per_chip: int

  def __str__(self) -> str:
    remat = '' if self.remat is None else f', remat {self.remat}'
    return f'{report.mesh_text(self.mesh)}{remat}, {self.per_chip} a chip'


@dataclasses.dataclass(frozen=True)
class Outcome:
  """The result of compiling the step with one choice.

  Attributes:
    choice: what was compiled.
    report: numbers of the compiled step; None if it is not possible.
    reason: why it is not possible; '' if it is.
  """

  choice: Choice
  report: report.Report | None
  reason: str = ''

  @property
  def speed(self) -> float:
    """Estimated examples per second; per FLOP where no peaks are known."""
    if self.report is None:
      return 0.0
    seconds = self.report.step_seconds
    if seconds is None:
      return self.report.batch_size / self.report.flops
    # Geometric mean of the two bounds: which is nearer is not known beforehand.
    return self.report.batch_size / math.sqrt(seconds[0] * seconds[1])


def run(
  config: Any,
  build: Callable[[Any], Experiment],
  devices: Sequence[jax.Device],
  *,
  batches: Sequence[int] = (),
  chip: flops.Chip | None = None,
  log: Callable[[str], None] = lambda line: None,
  save: Callable[[list[Outcome]], None] = lambda outcomes: None,
) -> list[Outcome]:
  """Compiles the step with every choice and ranks the choices by speed.

  Args:
    config: completed and valid config; its `mesh.sequence` and `mesh.style`
      are kept.
    build: function config -> Experiment.
    devices: devices of the slice.
    batches: numbers of examples per chip to try; by default half of the
      config's, the config's and twice it.
    chip: chip, as in `report.make`.
    log: function that is called with a line before and after each choice.
    save: function that is called after each choice with all outcomes so far,
      ranked.

  Returns:
    Outcomes of all choices, the fastest first, impossible ones last.

  Raises:
    ConfigError: if `mesh.sequence` doesn't divide the devices.
  """
  choices = list(_choices(config, len(devices), batches))
  outcomes: list[Outcome] = []
  for number, choice in enumerate(choices, 1):
    log(f'{number}/{len(choices)} {choice}')
    smaller = _find_smaller_failure(choice, outcomes)
    outcome = (
      Outcome(choice, None, f'more than {smaller}, which does not fit')
      if smaller
      else _try(config, build, devices, choice, chip)
    )
    log(f'  {_describe(outcome)}')
    outcomes.append(outcome)
    save(_rank(outcomes))
  return _rank(outcomes)


def _rank(outcomes: Iterable[Outcome]) -> list[Outcome]:
  return sorted(outcomes, key=lambda outcome: -outcome.speed)


def meshes(
  devices: int, sequence: int = 1, style: str = 'pjit'
) -> list[dict[str, int]]:
  """Meshes data x fsdp x tensor to try with a number of devices.

  Tensor parallelism goes up to 8, since more shards leave each product too
  small. The remaining devices are all data, all fsdp, or fsdp within 8 or 16
  and data across.

  Args:
    devices: number of devices.
    sequence: size of the axis `sequence` in all meshes.
    style: style of the mesh; 'pmap' replicates the model on every device.

  Raises:
    ConfigError: if `sequence` doesn't divide the devices.
  """
  if devices % sequence:
    raise ConfigError(
      f'mesh.sequence={sequence} does not divide the {devices} devices, and '
      '--search keeps it; set it to a number that does, or to 1'
    )
  devices //= sequence
  if style == 'pmap':
    return [{'data': devices, 'fsdp': 1, 'tensor': 1, 'sequence': sequence}]
  out = []
  for tensor in (1, 2, 4, 8):
    if devices % tensor:
      continue
    rest = devices // tensor
    for fsdp in sorted({1, 8, 16, rest}):
      if rest % fsdp == 0:
        sizes = {'data': rest // fsdp, 'fsdp': fsdp, 'tensor': tensor}
        out.append({**sizes, 'sequence': sequence})
  return out


def to_text(
  outcomes: Sequence[Outcome],
  *,
  examples: float | None = None,
  price_per_chip_hour: float | None = None,
) -> str:
  """Formats a table of the possible choices, and why the others are not.

  Args:
    outcomes: result of `run`.
    examples: number of training examples of the run, for its hours and cost.
    price_per_chip_hour: price in any currency.
  """
  fitting = [one for one in outcomes if one.report is not None]
  failed = [one for one in outcomes if one.report is None]
  timed = all(one.report.step_seconds is not None for one in fitting)
  head = f'{"mesh":<26} {"remat":<11} {"a chip":>6} {"memory":>10}'
  if fitting and timed:
    head += f' {"step, ms":>17} {"MFU":>11} {"examples/s":>10}'
    head += f' {"hours":>9}' if examples else ''
    head += f' {"cost":>10}' if examples and price_per_chip_hour else ''
  lines = [head, *(_row(one, examples, price_per_chip_hour) for one in fitting)]
  if failed:
    lines += ['', 'Not possible:']
    lines += [f'  {one.choice}: {one.reason}' for one in failed]
  if fitting:
    lines += ['', *_explain_order(fitting[0].report, timed)]
  return '\n'.join(lines)


def _row(one: Outcome, examples: float | None, price: float | None) -> str:
  numbers, choice = one.report, one.choice
  line = (
    f'{report.mesh_text(choice.mesh):<26} {choice.remat or "":<11} '
    f'{choice.per_chip:>6} {numbers.peak_memory / 2**30:>6.2f} GiB'
  )
  if numbers.step_seconds is None:
    return line
  best, worst = numbers.step_seconds
  line += (
    f' {_milliseconds(best):>8}-{_milliseconds(worst):<8} '
    f'{numbers.mfu(worst):>5.0%}-{numbers.mfu(best):<5.0%} {one.speed:>10,.0f}'
  )
  if examples:
    hours = examples / one.speed / 3600
    line += f' {hours:>9,.1f}'
    line += f' {hours * numbers.chips * price:>10,.0f}' if price else ''
  return line


def _milliseconds(seconds: float) -> str:
  """Milliseconds, short ones with two digits that count."""
  number = seconds * 1e3
  return f'{number:.2f}' if number >= 0.1 else f'{number:.2g}'


def _explain_order(numbers: report.Report, timed: bool) -> list[str]:
  """Lines below the table on how its rows are ranked."""
  if not timed:
    return [
      'Ranked by examples per FLOP that a step executes.',
      report.explain_missing_times(numbers),
    ]
  return [
    'Step times are estimated from published peaks: from all work at once to '
    'one by\none. Rows are ranked by the geometric mean of the two, which also '
    'gives\nexamples/s, hours and cost.'
  ]


def to_json(outcomes: Iterable[Outcome]) -> list[dict[str, Any]]:
  """The report of each choice, or the reason why it is not possible."""
  return [
    dataclasses.asdict(one.choice)
    | ({'reason': one.reason} if one.report is None else {})
    | (report.to_json(one.report) if one.report else {})
    for one in outcomes
  ]


def _choices(
  config: Any, devices: int, batches: Sequence[int]
) -> Iterable[Choice]:
  size = max(config.train.batch_size // devices, 1)
  sizes = sorted(set(batches or (max(size // 2, 1), size, 2 * size)))
  remats = REMATS if _stacks(config) else (None,)
  sequence = config.mesh.sequence
  if sequence == -1:
    others = (config.mesh[axis] for axis in ('data', 'fsdp', 'tensor'))
    sequence = max(devices // math.prod(others), 1)
  for mesh in meshes(devices, sequence, config.mesh.style):
    for remat in remats:
      for per_chip in sizes:
        yield Choice(mesh, remat, per_chip)


def _stacks(config: Any) -> list[Any]:
  """The parts of a config's model that can be rematerialised."""
  tables = components.of(config).tables
  return [
    part
    for part in config.model.values()
    if hasattr(part, 'items')
    and 'name' in part
    and 'remat' in models.settings_of(part.name, tables)
  ]


def _find_smaller_failure(choice: Choice, outcomes: Sequence[Outcome]) -> str:
  """A smaller batch that didn't fit with this mesh and remat, or ''."""
  for one in outcomes:
    same = (one.choice.mesh, one.choice.remat) == (choice.mesh, choice.remat)
    if same and one.reason.startswith('does not fit'):
      return f'{one.choice.per_chip} a chip'
  return ''


def _try(config, build, devices, choice: Choice, chip=None) -> Outcome:
  changed = settings.complete(config)
  with changed.unlocked():
    changed.mesh.update(choice.mesh)
    changed.train.batch_size = choice.per_chip * len(devices)
    for part in _stacks(changed):
      part.remat = choice.remat
  try:
    settings.validate(changed)
    compiled = step.compile_step(changed, build, devices)
    numbers = report.make(compiled, devices, chip)
  except ConfigError as error:
    return Outcome(choice, None, str(error))
  except Exception as error:  # One failure must not lose the other outcomes.
    return Outcome(choice, None, f'{type(error).__name__}: {error}')
  capacity = numbers.limits and numbers.limits.memory
  if capacity and numbers.peak_memory > capacity:
    return Outcome(
      choice,
      None,
      f'does not fit: {numbers.peak_memory / 2**30:.1f} GiB of '
      f'{capacity / 2**30:.0f} GiB',
    )
  return Outcome(choice, numbers)


def _describe(one: Outcome) -> str:
  if one.report is None:
    return one.reason
  seconds = one.report.step_seconds
  memory = f'{one.report.peak_memory / 2**30:.2f} GiB'
  if seconds is None:
    return memory
  best, worst = map(report.time_text, seconds)
  return f'{memory}, {best} to {worst} a step'
