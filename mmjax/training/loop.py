"""Training from one step to the next: step, log, evaluate, save."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax

from mmjax.errors import RunError
from mmjax.runs import checkpoints as checkpoints_lib
from mmjax.runs import folder, metric_writers
from mmjax.training import (
  by_source,
  compilations,
  due,
  prepared,
  profiling,
  progress,
  startup,
  stopping,
)
from mmjax.training.experiment import Experiment
from mmjax.training.state import State


class NonFiniteError(RunError):
  """A loss or gradient was NaN or infinite, and the run ended."""


# (step, evaluation) -> whether to end the run there.
ShouldStop = Callable[[int, Mapping[str, float]], bool]


@dataclasses.dataclass
class Loop:
  """A run from its first step of this process to its end.

  Attributes:
    config: a completed config.
    experiment: the experiment.
    folder: the run's folder.
    checkpoints: its checkpoints.
    writer: writers of metrics.
    meter: speed and FLOPs utilisation.
    line: the progress line.
    timer: times of the start-up.
    compilations: programs that are compiled between steps.
    profile: traces the steps that were asked for.
    stop: the signals.
    should_stop: function that ends the run early, as in `run`.
    prepared: the compiled step and the batches.
    state: the newest state.
    step: number of steps done.
    unchecked: (step, metrics) not yet checked for NaN, or None.
  """

  config: Any
  experiment: Experiment
  folder: folder.RunFolder
  checkpoints: checkpoints_lib.Checkpoints
  writer: metric_writers.Writers
  meter: progress.Meter
  line: progress.Progress
  timer: startup.Timer
  compilations: compilations.Compilations
  profile: profiling.Profile
  stop: stopping.Stopping
  should_stop: ShouldStop | None
  prepared: prepared.PreparedRun
  state: State
  step: int
  unchecked: tuple[int, Mapping[str, Any]] | None = None

  def run(self) -> dict[str, float]:
    """Step, log, evaluate, save, until the end, a signal or `should_stop`."""
    train, batch = self.config.train, self.prepared.batch
    # Neither the first batch nor the first state stays in memory.
    self.prepared = dataclasses.replace(self.prepared, batch=None, state=None)
    if self.step:
      self.line.log(f'resuming from step {self.step}')
    while self.step < train.steps:
      # Updates; beside it, traces the steps of --profile_steps.
      self.state, metrics = self.profile.run(
        self.prepared.update, self.step + 1, self.state, batch
      )
      self.step += 1
      self.meter.step(len(next(iter(batch.values()))))
      # One step late, so that the devices always have a next step to compute.
      self._collect_metrics()
      self.unchecked = self.step, metrics
      now = due.after(train, self.step, self.prepared.step)
      stops = self.stop.agreed(meet=now.log)
      if stops:
        now = now.before_stopping()
      if now.log or now.evaluate or now.save:
        self._collect_metrics()
      if now.log:
        self._log(metrics)
      with self.meter.paused(), self.compilations.ignored():
        measured, ends = self._evaluate('val') if now.evaluate else {}, False
        if measured:
          results = self.folder.save_results(
            measured, self.step, self.meter.train_seconds
          )
          ends = self.should_stop is not None and self.should_stop(
            self.step, measured
          )
        stops = stops or (now.evaluate and self.stop.agreed())
        best = measured and train.keep_best
        # The last step is saved with its evaluation, by `_finish`.
        if now.save or best or ((stops or ends) and not now.last):
          self.checkpoints.save(self.state, measured)
      if (stops or ends) and not now.last:
        self.checkpoints.wait()
        self.line.log(
          f'stopped at step {self.step}; the same command resumes from it'
        )
        if not stops:
          return results
        self.stop.leave()
        return {}
      if not now.last:
        batch = prepared.call_or_exit(
          self.meter.next_batch, self.prepared.batches, metrics
        )
    return self._finish()

  def _finish(self) -> dict[str, float]:
    """Saves the last step while its evaluations run."""
    if self.config.train.keep_best:  # Saved with its metric.
      measured = self._evaluate('val', show=False)
      self.checkpoints.save(self.state, measured)
    else:
      self.checkpoints.save(self.state)
      measured = self._evaluate('val', show=False)
    measured |= self._evaluate('test', show=False)
    self.checkpoints.wait()
    if self.stop.agreed():
      self.line.log(
        f'stopped at step {self.step}, before the end of the last evaluation; '
        'the same command runs it'
      )
      self.stop.leave()
      return {}
    results = self.folder.save_results(
      measured, self.step, self.meter.train_seconds
    )
    self.line.log(
      f'finished in {progress.duration(self.meter.train_seconds)}; results:'
    )
    self.line.log(folder.table(results))
    return results

  def _evaluate(self, split: str, show: bool = True) -> dict[str, float]:
    """Runs a split's evaluators; writes metrics as SPLIT/NAME, and images.

    After a signal, the remaining evaluators don't run and there are no results.
    """
    results: dict[str, float] = {}
    for name, evaluator in self.experiment.evaluators.get(split, {}).items():
      if self.stop.agreed():
        return {}
      for key, value in evaluator.run(self.state.eval_params):
        path = f'{split}/{key}'
        if path in results:
          raise ValueError(f'two evaluators of {split} yield {key!r}')
        results[path] = float(value)
      self.folder.save_image(evaluator.render(), split, name, self.step)
    if results:
      self.writer.write(self.step, results)
      if show:
        self.line.log(f'step {self.step}\n{folder.table(results)}')
    return results

  def _log(self, metrics: Mapping[str, Any]) -> None:
    """Writes the step's metrics, and the speed since the last time."""
    values = {name: float(v) for name, v in jax.device_get(metrics).items()}
    values = by_source.drop_empty(values) | self.meter.report()
    first = self.step == self.prepared.step + 1
    if first:
      self.timer.lap('first step')
      values |= self.timer.report()
      self.line.log(str(self.timer))
      self.compilations.begin()
    if new := self.compilations.take():
      self.line.log(
        f'warning: {new} programs were compiled between steps since the last '
        f'log line, at step {self.step}; JAX_LOG_COMPILES=1 names them'
      )
    if self.compilations.total:
      values['compilations'] = self.compilations.total
    self.writer.write(self.step, values)
    self.line.show(self.step, values, first=first)

  def _collect_metrics(self) -> None:
    """Waits for and counts the metrics of `unchecked`, all of them finite.

    Raises:
      NonFiniteError: naming the step and the metrics.
    """
    if self.unchecked is None:
      return
    step, metrics = self.unchecked
    self.unchecked = None
    values = jax.device_get(metrics)
    self.meter.count_examples(values, self.experiment.sources)
    if 'replaced' in values:
      self.meter.replaced(values['replaced'])
    watched = {n: float(v) for n, v in values.items() if n.startswith('loss/')}
    watched['grad_norm'] = float(values['grad_norm'])
    bad = [f'{n}={v}' for n, v in watched.items() if not math.isfinite(v)]
    if bad:
      raise NonFiniteError(
        f'step {step}: {", ".join(bad)}; nothing was saved of it. Lower '
        'optimizer.lr or optimizer.clip_norm, or look at the batch of this '
        'step; the same command resumes from the last checkpoint'
      )
