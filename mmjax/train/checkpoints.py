"""Checkpoints of a run: asynchronous, atomic, the newest and the best.

A checkpoint is a folder named by its step, with an item each for `params`,
`opt_state`, `ema` (if there is one) and `clock` (step and seed, which also are
the position in the data and the state of all randomness). Orbax writes it
under another name and renames it when it is whole, so that a process killed at
any moment leaves the checkpoints before as they were.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers as policies

from mmjax.train import settings
from mmjax.train import state as state_lib
from mmjax.types import Params

FOLDER = 'checkpoints'


class _Manager(ocp.CheckpointManager):
  """Leaves preemption to `stopping`, which asks JAX about it, and counts."""

  def reached_preemption(self, step: int) -> bool:
    return False


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
          get_metric_fn=lambda metrics: metrics['best'],
          reverse=best_mode == 'min',
          n=1,
          keep_checkpoints_without_metrics=False,
        )
      )
    self._manager = _Manager(
      Path(workdir).absolute() / FOLDER,
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
    self, state: state_lib.State, metrics: Mapping[str, float] | None = None
  ) -> None:
    """Begins to save; the state may be donated as soon as this returns.

    Args:
      state: what to save. Of a step that is saved already, nothing happens.
      metrics: of the evaluation at this step, if there was one.

    Raises:
      UserError: if `keep_best` is none of the metrics, after saving.
    """
    step = int(state.step)
    if step == self.latest():
      return
    best = None
    if metrics and self._best in metrics:
      best = {'best': float(metrics[self._best])}
    items = {
      name: ocp.args.StandardSave(value)
      for name, value in _items(state).items()
    }
    self._manager.save(step, args=ocp.args.Composite(**items), metrics=best)
    if metrics and self._best and best is None:
      self.wait()
      raise settings.UserError(
        f'train.keep_best={self._best!r} is no metric of the evaluation; '
        f'there are {", ".join(sorted(metrics))}. Step {step} is saved: set '
        'the field, and the run goes on'
      )

  def restore(self, abstract: state_lib.State) -> state_lib.State:
    """The newest state, put where `abstract` says.

    Args:
      abstract: `mmjax.train.state.Plan.abstract`; its mesh may be another
        than the one the checkpoint was written on.
    """
    step = self.latest()
    items = {
      name: ocp.args.StandardRestore(value)
      for name, value in _items(abstract).items()
    }
    found = self._manager.restore(step, args=ocp.args.Composite(**items))
    return state_lib.State(
      step=found['clock']['step'],
      seed=found['clock']['seed'],
      params=found['params'],
      opt_state=found['opt_state'],
      ema=found['ema'] if 'ema' in items else None,
    )

  def wait(self) -> None:
    """Until everything begun is on disk."""
    self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits, then stops the writing thread."""
    self._manager.close()


def load_params(
  workdir: Path | str, *, ema: bool | None = None, step: int | None = None
) -> Params:
  """A run's parameters alone, on the first device, to predict with.

  Args:
    workdir: the run's folder.
    ema: whether to take the average; by default where the run kept one.
    step: of which checkpoint, the newest by default.

  Raises:
    UserError: if the run has no such checkpoint, or no average.
  """
  folder = Path(workdir).absolute() / FOLDER
  there = sorted(
    int(path.name)
    for path in (folder.iterdir() if folder.is_dir() else ())
    if path.name.isdigit()
  )
  if not there:
    raise settings.UserError(f'{workdir} has no checkpoint; train it first')
  step = there[-1] if step is None else step
  if step not in there:
    raise settings.UserError(
      f'{workdir} has no checkpoint of step {step}; there are {there}'
    )
  has_ema = (folder / str(step) / 'ema').is_dir()
  if ema and not has_ema:
    raise settings.UserError(
      f'{workdir} kept no average of its parameters (train.ema_decay is 0)'
    )
  name = 'ema' if (has_ema if ema is None else ema) else 'params'
  path = folder / str(step) / name
  place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  target = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
    ocp.StandardCheckpointHandler().metadata(epath.Path(path)).tree,
  )
  with ocp.StandardCheckpointer() as checkpointer:
    return checkpointer.restore(path, target)


def _items(state: state_lib.State) -> dict[str, Any]:
  items = {
    'params': state.params,
    'opt_state': state.opt_state,
    'clock': {'step': state.step, 'seed': state.seed},
  }
  return items if state.ema is None else items | {'ema': state.ema}
