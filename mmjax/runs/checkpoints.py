"""Checkpoints of a run: asynchronous, atomic, the newest and the best.

A checkpoint is a folder named by its step, with an item each for `params`,
`opt_state`, `ema` (if there is one) and `clock` (step and seed, which also are
the position in the data and the state of all randomness). Orbax writes it
under another name and renames it when it is whole, so that a process killed at
any moment leaves the checkpoints before as they were.
"""

import itertools
import operator
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from etils import epath, epy

from mmjax.errors import ConfigError
from mmjax.ops import tree_paths
from mmjax.parallel import hosts
from mmjax.runs import best_metric, late_reads
from mmjax.types import Params

with epy.lazy_imports():  # Slow to import.
  import orbax.checkpoint as ocp
  from orbax.checkpoint import checkpoint_managers as policies

FOLDER = 'checkpoints'
# Items: the EMA of all parameters, or of the trained ones if some are frozen.
_EMA, _TRAINED_EMA = 'ema', 'trained_ema'
# Behind the name of a checkpoint that could not be read.
DAMAGED = '.damaged'


class CheckpointRenamedError(Exception):
  """The newest checkpoints were renamed; the newest one left is whole."""


def _open_manager(
  folder: Path, best: str, options: 'ocp.CheckpointManagerOptions'
) -> 'ocp.CheckpointManager':
  """Opens a manager that leaves preemption to `stopping`.

  JAX counts how often it is asked, so that only one place may ask. Steps have
  no metric but `best`.
  """

  class Manager(ocp.CheckpointManager):
    def reached_preemption(self, step: int) -> bool:
      return False

    def metrics(self, step: int) -> Any:
      return best_metric.read(folder, step, best)

  return Manager(folder, options=options)


class Checkpoints:
  """Saves and restores the states of one run.

  Args:
    workdir: the run's folder.
    keep_last: how many of the newest to keep.
    keep_best: metric whose best checkpoint is kept besides; '' for none.
    best_mode: 'max' or 'min'.
  """

  def __init__(
    self,
    workdir: Path | str,
    *,
    keep_last: int = 2,
    keep_best: str = '',
    best_mode: str = 'max',
  ):
    self._best = keep_best
    keep: list[policies.PreservationPolicy] = [policies.LatestN(keep_last)]
    if keep_best:
      keep.append(
        policies.BestN(
          get_metric_fn=operator.itemgetter(keep_best),
          reverse=best_mode == 'min',
          n=1,
          keep_checkpoints_without_metrics=False,
        )
      )
    self._folder = Path(workdir).absolute() / FOLDER
    self._manager = _open_manager(
      self._folder,
      keep_best,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=policies.AnyPreservationPolicy(keep),
        cleanup_tmp_directories=True,
      ),
    )

  def latest(self) -> int | None:
    """Step of the newest whole checkpoint, None if there is none."""
    return self._manager.latest_step()

  def steps(self) -> list[int]:
    """Steps of all whole checkpoints."""
    return sorted(self._manager.all_steps())

  def save(
    self, state: Any, metrics: Mapping[str, float] | None = None
  ) -> None:
    """Begins to save; the state may be donated as soon as this returns.

    Args:
      state: what to save. Of a step that is saved already, only the metric is.
      metrics: metrics of the evaluation at this step, if there was one.

    Raises:
      ConfigError: if `keep_best` is none of the metrics, after saving.
    """
    step = int(state.step)
    best = best_metric.choose(metrics or {}, self._best, step)
    if step != self.latest():
      self._begin(step, state, best)
    elif best is not None:
      self.wait()
      best_metric.add(self._folder, step, best)
    if metrics and self._best and self._best not in metrics:
      self.wait()
      raise ConfigError(
        f'train.keep_best={self._best!r} is not a metric of the evaluation; '
        f'there are {", ".join(sorted(metrics))}. Step {step} is saved: set '
        'the field, and the run resumes'
      )

  def _begin(
    self, step: int, state: Any, best: Mapping[str, float] | None
  ) -> None:
    """Begins to save a step."""
    items = {
      name: ocp.args.StandardSave(value)
      for name, value in _items(state).items()
    }
    if best is not None:  # Orbax would warn of steps without an evaluation.
      items[best_metric.ITEM] = ocp.args.JsonSave(best)
    self._manager.save(step, args=ocp.args.Composite(**items), metrics=best)

  def restore(self, abstract: Any) -> Any:
    """The newest state, put where `abstract` says; all hosts must call it.

    A checkpoint that a host cannot read is renamed, once all hosts have read an
    older one: if none can be read, the reason may be another than the files.

    Args:
      abstract: `mmjax.training.state.Plan.abstract`; its mesh may be another
        than the one the checkpoint was written on.

    Raises:
      CheckpointRenamedError: if the newest one was renamed; `latest` is then
        one that is whole.
      ConfigError: if none is whole.
    """
    reasons: dict[int, str] = {}
    for step in reversed(hosts.from_first(self.steps())):
      state, reason = self._try(step, abstract)
      found = hosts.gather(reason)
      if not any(found):
        if not reasons:
          return state
        raise CheckpointRenamedError(self._set_aside(reasons, step))
      del state  # Its memory is that of the next one.
      reasons[step] = _join_reasons(found)
    raise ConfigError(self._unreadable(reasons))

  def _try(self, step: int, abstract: Any) -> tuple[Any, str]:
    """This host's part of a state, or why it cannot be read."""
    try:
      with late_reads.ignored():
        return self._restore(step, abstract), ''
    except (MemoryError, jax.errors.JaxRuntimeError):
      raise  # Of the device's memory, say.
    except Exception as error:
      return None, _reason(error)

  def _restore(self, step: int, abstract: Any) -> Any:
    # The manager would wait for the other hosts, and an error of one host alone
    # would leave them there.
    handler = ocp.StandardCheckpointHandler()
    items = _items(abstract)
    found = {
      name: handler.restore(
        epath.Path(self._path(step)) / name,
        args=ocp.args.StandardRestore(value),
      )
      for name, value in items.items()
    }
    return abstract.replace(
      step=found['clock']['step'],
      seed=found['clock']['seed'],
      params=found['params'],
      opt_state=found['opt_state'],
      ema=found.get(_EMA, found.get(_TRAINED_EMA)),
    )

  def _set_aside(self, reasons: Mapping[int, str], whole: int) -> str:
    """Renames checkpoints; says which, and from where the run resumes."""
    lines = []
    with hosts.raise_together():
      for step, reason in reasons.items() if hosts.is_first() else ():
        to = self._rename(step)
        lines.append(
          f'the checkpoint of step {step} cannot be read ({reason}); '
          f'renamed to {to}'
        )
    with hosts.raise_together():
      hosts.wait_for_files(
        lambda: not any(self._path(step).exists() for step in reasons),
        f'still finds a renamed checkpoint in {self._manager.directory}',
      )
    self._manager.reload()
    lines = hosts.from_first(lines)
    return '\n'.join([*lines, f'the checkpoint of step {whole} is whole'])

  def _rename(self, step: int) -> Path:
    """Renames a checkpoint that cannot be read; returns its new path."""
    path = self._path(step)
    to = path.with_name(path.name + DAMAGED)
    for number in itertools.count(2):
      if not to.exists():
        break
      to = path.with_name(f'{path.name}{DAMAGED}{number}')
    path.rename(to)
    return to

  def _unreadable(self, reasons: Mapping[int, str]) -> str:
    lines = [f'  step {step}: {reason}' for step, reason in reasons.items()]
    return '\n'.join(
      [
        f'no checkpoint in {self._manager.directory} can be read:',
        *lines,
        'Nothing was changed. Restore the files from a backup, or rename the '
        'folder, and the same command trains from the start',
      ]
    )

  def _path(self, step: int) -> Path:
    return Path(self._manager.directory) / str(step)

  def wait(self) -> None:
    """Until everything begun is on disk."""
    self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits, then stops the writing thread."""
    self._manager.close()


def steps_in(workdir: Path | str) -> list[int]:
  """Steps of a run's whole checkpoints, the newest one last."""
  folder = Path(workdir) / FOLDER
  paths = folder.iterdir() if folder.is_dir() else ()
  return sorted(int(path.name) for path in paths if path.name.isdigit())


def find_step(
  workdir: Path | str,
  wanted: int | str | None = None,
  keep_best: str = '',
  best_mode: str = 'max',
) -> int:
  """Step of a run's whole checkpoint.

  Args:
    workdir: the run's folder.
    wanted: the step; 'best' for the best of those that have the metric
      `keep_best`; None for the newest.
    keep_best: the run's `train.keep_best`.
    best_mode: the run's `train.best_mode`.

  Raises:
    ConfigError: if there is none.
  """
  there = steps_in(workdir)
  if not there:
    raise ConfigError(f'{workdir} has no checkpoint; train it first')
  if wanted == 'best':
    folder = Path(workdir) / FOLDER
    return best_metric.find_step(folder, there, keep_best, best_mode)
  if wanted is not None and wanted not in there:
    raise ConfigError(
      f'{workdir} has no checkpoint of step {wanted!r}; there are {there}, and '
      "'best' by train.keep_best"
    )
  return there[-1] if wanted is None else int(wanted)


def has_ema(workdir: Path | str, step: int) -> bool:
  """Whether the checkpoint of a step has the EMA of the parameters."""
  folder = Path(workdir) / FOLDER / str(step)
  return any((folder / item).is_dir() for item in (_EMA, _TRAINED_EMA))


def remove_unfinished(workdir: Path | str) -> bool:
  """Removes what failed saves left, if anything; says whether there was any.

  No process may be saving there.
  """
  paths = list((Path(workdir) / FOLDER).glob('*.orbax-checkpoint-tmp*'))
  for path in paths:
    shutil.rmtree(path, ignore_errors=True)
  return bool(paths)


def load_params(
  workdir: Path | str, *, ema: bool | None = None, step: int | None = None
) -> Params:
  """A run's parameters alone, on the first device, to predict with.

  Args:
    workdir: the run's folder.
    ema: whether to take the average; by default where the run kept one.
    step: step of the checkpoint; the newest by default.

  Raises:
    ConfigError: if the run has no such checkpoint, it cannot be read, or it has
      no average.
  """
  folder = Path(workdir).absolute() / FOLDER
  step, there = find_step(workdir, step), steps_in(workdir)
  kept = has_ema(workdir, step)
  if ema and not kept:
    raise ConfigError(
      f'{workdir} kept no average of its parameters (train.ema_decay is 0)'
    )
  average = kept if ema is None else ema
  try:
    with late_reads.ignored():
      return _load_params(folder / str(step), average)
  except (MemoryError, jax.errors.JaxRuntimeError):
    raise
  except Exception as error:
    older = [number for number in there if number < step]
    then = 'train again'
    if older:
      then = f'this reads step {older[-1]}, from which training resumes too'
    raise ConfigError(
      f'the checkpoint of step {step} in {folder / str(step)} cannot be read '
      f'({_reason(error)}); restore its files from a backup, or rename it to '
      f'{step}{DAMAGED}, and {then}'
    ) from error


def _load_params(path: Path, average: bool) -> Params:
  """The parameters of a checkpoint, or their EMA."""
  if not average:
    return _load(path / 'params')
  if (path / _EMA).is_dir():
    return _load(path / _EMA)
  return tree_paths.overlay(_load(path / 'params'), _load(path / _TRAINED_EMA))


def _load(path: Path) -> Params:
  """One item of a checkpoint, on the first device."""
  place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  target = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
    ocp.StandardCheckpointHandler().metadata(epath.Path(path)).tree,
  )
  with ocp.StandardCheckpointer() as checkpointer:
    return checkpointer.restore(path, target)


def _reason(error: Exception, longest: int = 160) -> str:
  """An error in one line."""
  line = next(iter(str(error).splitlines()), '')
  return f'{type(error).__name__}: {line}'[:longest]


def _join_reasons(reasons: Sequence[str]) -> str:
  """The reasons of all hosts, '' for those that read it, in one line."""
  if len(reasons) == 1:
    return reasons[0]
  return '; '.join(
    f'process {index}: {reason}'
    for index, reason in enumerate(reasons)
    if reason
  )


def _items(state: Any) -> dict[str, Any]:
  items = {
    'params': state.params,
    'opt_state': state.opt_state,
    'clock': {'step': state.step, 'seed': state.seed},
  }
  if state.ema is None:
    return items
  is_whole = jax.tree.structure(state.ema) == jax.tree.structure(state.params)
  return items | {_EMA if is_whole else _TRAINED_EMA: state.ema}
