"""A trace of some of a run's steps, for XProf and Perfetto."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from mmjax.errors import ConfigError
from mmjax.training import progress


def check(steps: range | None, *, done: int, total: int) -> None:
  """Refuses steps that a run will not take.

  Args:
    steps: numbers of the steps to trace, from 1; None for none.
    done: number of steps that the run has done.
    total: number of its steps, `train.steps`.

  Raises:
    ConfigError: naming the steps that are left.
  """
  if steps is None or done < steps[0] <= steps[-1] <= total:
    return
  left = f'use some of {done + 1}:{total}' if done < total else 'none is left'
  raise ConfigError(
    f'--profile_steps={steps[0]}:{steps[-1]} is not within the steps of the '
    f'run, which has done {done} of train.steps={total}; {left}'
  )


@dataclasses.dataclass
class Profile:
  """Traces steps with `jax.profiler`, and says where the trace is.

  The first of them starts when the devices are idle, and the last is over
  before the trace ends. Starting and writing it don't count as training time.

  Attributes:
    workdir: the run's folder; traces are in its `profile/`, of several hosts in
      a folder for each.
    steps: numbers of the steps, from 1; None for none.
    meter: the run's meter.
    log: prints a line.
  """

  workdir: Path
  steps: range | None
  meter: progress.Meter
  log: Callable[[str], None]

  def __post_init__(self):
    self._last = 0  # The newest traced step; 0 where no trace is under way.
    self._folder = self.workdir / 'profile'
    if jax.process_count() > 1:
      self._folder /= f'process_{jax.process_index()}'

  def run(
    self, update: Callable[..., Any], number: int, state: Any, batch: Any
  ) -> tuple[Any, Any]:
    """Runs step `number`, traced if it is one of `steps`.

    Args:
      update: function (state, batch) -> (state, metrics).
      number: number of the step, from 1.
      state: the state before it, which is donated.
      batch: its batch.
    """
    if self.steps is None or number not in self.steps:
      return update(state, batch)
    if number == self.steps[0]:
      with self.meter.paused():
        jax.block_until_ready(state)
        self._start()
    self._last = number
    with jax.profiler.StepTraceAnnotation('train', step_num=number):
      state, metrics = update(state, batch)
    if number == self.steps[-1]:
      jax.block_until_ready((state, metrics))
      self.close()
    return state, metrics

  def _start(self) -> None:
    options = jax.profiler.ProfileOptions()
    # Python's calls would slow the host down, and hide what is of interest.
    options.python_tracer_level = 0
    jax.profiler.start_trace(
      self._folder, create_perfetto_trace=True, profiler_options=options
    )

  def close(self) -> None:
    """Writes the trace, if one is under way."""
    if not self._last:
      return
    with self.meter.paused():
      jax.profiler.stop_trace()
    self.log(
      f'traced steps {self.steps[0]} to {self._last} in {self._folder}; XProf '
      'opens the folder, ui.perfetto.dev the perfetto_trace.json.gz below '
      'plugins/profile in it'
    )
    self._last = 0
