"""Which mesh, rematerialisation and batch size make a step quickest."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax

from mmjax import models
from mmjax.config import settings
from mmjax.errors import ConfigError
from mmjax.nn import stack
from mmjax.planning import report, step
from mmjax.train.experiment import Experiment

REMATS = ('none', *stack.REMAT_POLICIES)


@dataclasses.dataclass(frozen=True)
class Choice:
  """One way to run the step.

  Attributes:
    mesh: size by axis.
    remat: of every stack of the model; None: as the config has it, since none
      has the setting.
    per_chip: examples a chip.
  """

  mesh: dict[str, int]
  remat: str | None
  per_chip: int

  def __str__(self) -> str:
    remat = '' if self.remat is None else f', remat {self.remat}'
    return f'{report.mesh_text(self.mesh)}{remat}, {self.per_chip} a chip'


@dataclasses.dataclass(frozen=True)
class Tried:
  """What came of a choice.

  Attributes:
    choice: what was tried.
    report: None if it can't be had.
    reason: why not; '' if it can.
  """

  choice: Choice
  report: report.Report | None
  reason: str = ''

  @property
  def speed(self) -> float:
    """Examples a second, at best; where no peaks are known, those a FLOP."""
    if self.report is None:
      return 0.0
    seconds = self.report.step_seconds
    if seconds is None:
      return self.report.batch_size / self.report.flops
    # Between the two bounds; which is nearer, nobody knows before.
    return self.report.batch_size / math.sqrt(seconds[0] * seconds[1])


def run(
  config: Any,
  build: Callable[[Any], Experiment],
  devices: Sequence[jax.Device],
  *,
  batches: Sequence[int] = (),
  tell: Callable[[str], None] = lambda line: None,
  keep: Callable[[list[Tried]], None] = lambda tried: None,
) -> list[Tried]:
  """Compiles every choice.

  Args:
    config: a completed and valid config; its `mesh.sequence` and `mesh.style`
      stay.
    build: config -> Experiment.
    devices: those of the slice.
    batches: examples a chip to try; by default half of the config's, the
      config's and twice it.
    tell: is given a line before and after each.
    keep: is given all that were tried so far, after each, in the order of the
      result.

  Returns:
    All that were tried, the quickest first, those that can't be had last.

  Raises:
    ConfigError: if `mesh.sequence` doesn't divide the devices.
  """
  choices = list(_choices(config, len(devices), batches))
  tried: list[Tried] = []
  for number, choice in enumerate(choices, 1):
    tell(f'{number}/{len(choices)} {choice}')
    smaller = _too_large(choice, tried)
    one = (
      Tried(choice, None, f'more than {smaller}, which does not fit')
      if smaller
      else _try(config, build, devices, choice)
    )
    tell(f'  {_outcome(one)}')
    tried.append(one)
    keep(_ranked(tried))
  return _ranked(tried)


def _ranked(tried: Iterable[Tried]) -> list[Tried]:
  return sorted(tried, key=lambda one: -one.speed)


def meshes(
  devices: int, sequence: int = 1, style: str = 'pjit'
) -> list[dict[str, int]]:
  """Ways to lay devices out as data x fsdp x tensor.

  Tensor parallelism up to 8, since more ways leave each product too small; the
  rest all data, all fsdp, or fsdp within 8 or 16 and data across.

  Args:
    devices: number of them.
    sequence: ways that the tokens of an example are split, in all meshes.
    style: of the mesh; 'pmap' has the whole model on every device.

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
        ways = {'data': rest // fsdp, 'fsdp': fsdp, 'tensor': tensor}
        out.append({**ways, 'sequence': sequence})
  return out


def text(
  tried: Iterable[Tried],
  *,
  examples: float | None = None,
  price_per_chip_hour: float | None = None,
) -> str:
  """A table of what can be had, and why the rest can't.

  Args:
    tried: of `run`.
    examples: that the run shall see, for its hours and cost.
    price_per_chip_hour: in any currency.
  """
  had = [one for one in tried if one.report is not None]
  failed = [one for one in tried if one.report is None]
  timed = all(one.report.step_seconds is not None for one in had)
  head = f'{"mesh":<26} {"remat":<6} {"a chip":>6} {"memory":>10}'
  if had and timed:
    head += f' {"step, ms":>17} {"MFU":>11} {"examples/s":>10}'
    head += f' {"hours":>9}' if examples else ''
    head += f' {"cost":>10}' if examples and price_per_chip_hour else ''
  lines = [head, *(_row(one, examples, price_per_chip_hour) for one in had)]
  if failed:
    lines += ['', 'What can not be had:']
    lines += [f'  {one.choice}: {one.reason}' for one in failed]
  if had:
    lines += ['', *_ranking(had[0].report, timed)]
  return '\n'.join(lines)


def _row(one: Tried, examples: float | None, price: float | None) -> str:
  made, choice = one.report, one.choice
  line = (
    f'{report.mesh_text(choice.mesh):<26} {choice.remat or "":<6} '
    f'{choice.per_chip:>6} {made.peak_memory / 2**30:>6.2f} GiB'
  )
  if made.step_seconds is None:
    return line
  best, worst = made.step_seconds
  line += (
    f' {best * 1e3:>8.2f}-{worst * 1e3:<8.2f} '
    f'{made.mfu(worst):>5.0%}-{made.mfu(best):<5.0%} {one.speed:>10,.0f}'
  )
  if examples:
    hours = examples / one.speed / 3600
    line += f' {hours:>9,.1f}'
    line += f' {hours * made.chips * price:>10,.0f}' if price else ''
  return line


def _ranking(made: report.Report, timed: bool) -> list[str]:
  """In which order the rows are, and of what."""
  if not timed:
    return [
      'Ranked by examples a FLOP, of all that a step executes.',
      report.no_peaks(made),
    ]
  return [
    'Steps from all work at once to one by one, from published peaks; ranked '
    'by the\ngeometric mean of the two, of which are also examples/s, hours '
    'and cost.'
  ]


def to_json(tried: Iterable[Tried]) -> list[dict[str, Any]]:
  """Of each choice its report, or the reason why it can't be had."""
  return [
    dataclasses.asdict(one.choice)
    | ({'reason': one.reason} if one.report is None else {})
    | (report.to_json(one.report) if one.report else {})
    for one in tried
  ]


def _choices(
  config: Any, devices: int, batches: Sequence[int]
) -> Iterable[Choice]:
  own = max(config.train.batch_size // devices, 1)
  sizes = sorted(set(batches or (max(own // 2, 1), own, 2 * own)))
  remats = REMATS if _stacks(config.model) else (None,)
  sequence = config.mesh.sequence
  if sequence == -1:
    others = (config.mesh[axis] for axis in ('data', 'fsdp', 'tensor'))
    sequence = max(devices // math.prod(others), 1)
  for mesh in meshes(devices, sequence, config.mesh.style):
    for remat in remats:
      for per_chip in sizes:
        yield Choice(mesh, remat, per_chip)


def _stacks(model: Any) -> list[Any]:
  """The parts of a config's model that can be rematerialised."""
  return [
    part
    for part in model.values()
    if hasattr(part, 'items')
    and 'name' in part
    and 'remat' in models.settings_of(part.name)
  ]


def _too_large(choice: Choice, tried: Sequence[Tried]) -> str:
  """A smaller batch of the same kind that didn't fit, '' if there is none."""
  for one in tried:
    same = (one.choice.mesh, one.choice.remat) == (choice.mesh, choice.remat)
    if same and one.reason.startswith('does not fit'):
      return f'{one.choice.per_chip} a chip'
  return ''


def _try(config, build, devices, choice: Choice) -> Tried:
  changed = settings.complete(config)
  with changed.unlocked():
    changed.mesh.update(choice.mesh)
    changed.train.batch_size = choice.per_chip * len(devices)
    for part in _stacks(changed.model):
      part.remat = choice.remat
  try:
    settings.validate(changed)
    made = report.make(step.compile_step(changed, build, devices), devices)
  except ConfigError as error:
    return Tried(choice, None, str(error))
  except Exception as error:  # Any other must not lose what the rest gave.
    return Tried(choice, None, f'{type(error).__name__}: {error}')
  capacity = made.limits and made.limits.memory
  if capacity and made.peak_memory > capacity:
    return Tried(
      choice,
      None,
      f'does not fit: {made.peak_memory / 2**30:.1f} GiB of '
      f'{capacity / 2**30:.0f} GiB',
    )
  return Tried(choice, made)


def _outcome(one: Tried) -> str:
  if one.report is None:
    return one.reason
  seconds = one.report.step_seconds
  memory = f'{one.report.peak_memory / 2**30:.2f} GiB'
  if seconds is None:
    return memory
  return f'{memory}, {seconds[0] * 1e3:.2f} to {seconds[1] * 1e3:.2f} ms a step'
