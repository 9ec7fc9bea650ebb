"""A sweep's study: which trials there are, who runs them, their results."""

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

import optuna

from mmjax.config import settings
from mmjax.errors import ConfigError
from mmjax.runs import checkpoints
from mmjax.sweeps import lease, search
from mmjax.sweeps import space as space_lib
from mmjax.sweeps import storage as storage_lib
from mmjax.sweeps import sweep as sweep_lib

State = optuna.trial.TrialState
Frozen = optuna.trial.FrozenTrial
FinishedError = optuna.exceptions.UpdateFinishedTrialError
# User attribute: step, and number of workers that died at it.
_DEATHS = 'deaths'
# A trial that ended so many workers without progress fails.
_MAX_DEATHS = 6
# Fields of the description that workers may differ in: where a run is.
_LOCAL = ('file', 'config', 'in_file.', 'base.mesh.', 'base.data.data_dir')


@dataclasses.dataclass(frozen=True)
class RunningTrial:
  """A trial that this worker has taken.

  Another worker may have ended it in the meantime; that end counts, and what
  this one then stores is ignored.

  Attributes:
    study: Optuna's.
    trial: Optuna's.
    worker: this one.
    number: the trial's, which stays with it whoever runs it.
    values: path -> value of the config.
  """

  study: optuna.Study
  trial: optuna.Trial
  worker: lease.Worker
  number: int
  values: dict[str, Any]

  def holding(self) -> contextlib.AbstractContextManager[None]:
    """A context in which other workers leave the trial alone."""
    return self.worker.holding(self.trial)

  def report(self, step: int, value: float) -> bool:
    """Stores an evaluation.

    Returns:
      Whether the run ends here: the pruner says so, or the trial has ended.
    """
    try:
      return storage_lib.with_retry(self._report, step, value)
    except FinishedError:
      return True

  def end(self, state: State, value: float | None = None, **facts: Any) -> None:
    """Ends the trial, and stores facts with it.

    Args:
      state: COMPLETE; PRUNED, whose metric is the last report; or FAIL.
      value: the metric, if it is complete.
      **facts: user attributes, which JSON can represent.
    """
    call = storage_lib.with_retry
    with contextlib.suppress(FinishedError):
      for fact in facts.items():
        call(self.trial.set_user_attr, *fact)
      tell = self.study.tell
      call(tell, self.number, value, state=state, skip_if_finished=True)

  def _report(self, step: int, value: float) -> bool:
    trial = self.study.get_trials(deepcopy=False)[self.number]
    if step < (trial.last_step or 0):
      return False  # A worker before got further.
    if step not in trial.intermediate_values:
      self.trial.report(value, step)
    return self.trial.should_prune()


class Study:
  """The study as a worker's first host uses it.

  Attributes:
    optuna: Optuna's study, to read.

  Args:
    sweep: what is searched.
    location: where its storage is, as in `storage.open_storage`.
    workdir: the sweep's folder, whose name is the study's.

  Raises:
    ConfigError: if the storage can't be opened, or has a study of this name
      about something else.
  """

  def __init__(
    self,
    sweep: sweep_lib.Sweep,
    location: str,
    workdir: Path | str,
  ):
    self._sweep, self._workdir = sweep, workdir
    self._storage = storage_lib.open_storage(location, workdir)
    self.optuna = optuna.create_study(
      storage=self._storage,
      study_name=storage_lib.study_name(workdir),
      direction=sweep.direction,
      load_if_exists=True,
    )
    self._worker = lease.Worker()
    self._check_same_sweep()

  def trials(self) -> list[Frozen]:
    """The sweep's trials that exist so far, by number.

    Workers that add a trial in the same moment add one too many, which never
    begins.
    """
    return self.optuna.get_trials(deepcopy=False)[: self._sweep.trials]

  def take(self) -> RunningTrial | None:
    """Takes the next trial to run: one whose worker died, else a new one.

    One that ended six workers without progress in between fails.

    Returns:
      None if there is none now; see `done`.
    """
    return storage_lib.with_retry(self._take)

  def done(self) -> bool:
    """Whether every trial has ended."""
    trials = storage_lib.with_retry(self.trials)
    return len(trials) == self._sweep.trials and all(
      trial.state.is_finished() for trial in trials
    )

  def _take(self) -> RunningTrial | None:
    while True:
      trials = self.trials()
      for trial in trials:
        if self._may_take(trial):
          with contextlib.suppress(FinishedError):
            taken = self._begin(trial.number)
            if taken is not None:
              return taken
      if len(trials) == self._sweep.trials:
        return None
      self.optuna.add_trial(optuna.trial.create_trial(state=State.WAITING))

  def _may_take(self, trial: Frozen) -> bool:
    if trial.state == State.RUNNING:
      return self._worker.may_take(trial)
    return trial.state == State.WAITING

  def _begin(self, number: int) -> RunningTrial | None:
    """Takes a trial; None if another worker was faster, or it fails now."""
    storage = self._storage
    study = optuna.load_study(
      study_name=self.optuna.study_name,
      storage=storage,
      sampler=search.sampler(self._sweep, number),
      pruner=search.pruner(self._sweep),
    )
    frozen = study.get_trials(deepcopy=False)[number]
    if not self._may_take(frozen):
      return None
    # To make a Trial and to call a storage is public in Optuna, but not meant
    # for its users, so that setup.cfg bounds its version. `Study.ask` can't
    # resume a trial.
    identity = storage.get_trial_id_from_study_id_trial_number(
      storage.get_study_id_from_name(study.study_name), number
    )
    trial = optuna.Trial(study, identity)
    if frozen.state == State.WAITING and (
      not storage.set_trial_state_values(identity, State.RUNNING)
    ):
      return None
    dead = self._worker.replaces_dead(frozen)
    self._worker.claim(trial)
    if dead and self._fails(trial, frozen):
      return None
    # Values that the trial has already are not drawn again.
    values = space_lib.sample(self._sweep.space, trial)
    trial.set_user_attr('values', values)
    return RunningTrial(self.optuna, trial, self._worker, number, values)

  def _fails(self, trial: optuna.Trial, frozen: Frozen) -> bool:
    """Counts a worker that died, and fails a trial that ended too many."""
    folder = trial_folder(self._workdir, frozen.number)
    step = max([*checkpoints.steps_in(folder), frozen.last_step or 0])
    before, deaths = frozen.user_attrs.get(_DEATHS, (-1, 0))
    deaths = deaths + 1 if step <= before else 1
    trial.set_user_attr(_DEATHS, (step, deaths))
    if deaths < _MAX_DEATHS:
      return False
    trial.set_user_attr(
      'reason',
      f'it ended {deaths} workers without progress after step {step}, by an '
      'error or for lack of memory; see its log.txt and what they printed',
    )
    self.optuna.tell(frozen.number, state=State.FAIL, skip_if_finished=True)
    return True

  def _check_same_sweep(self) -> None:
    """Refuses to resume another sweep than the study began with."""
    mine = json.loads(json.dumps(self._sweep.description()))
    old = settings.leaves(self.optuna.user_attrs.get('sweep', {}))
    new = settings.leaves(mine)
    changed = {
      path: f'{path}: {old.get(path)!r} -> {new.get(path)!r}'
      for path in sorted({**old, **new})
      if old.get(path) != new.get(path) and not _is_local(path)
    }
    # A metric that the evaluators lack can be corrected.
    judged = any(trial.intermediate_values for trial in self.trials())
    free = {'trials'} if judged else {'trials', 'metric'}
    if not old or (changed and changed.keys() <= free):
      self.optuna.set_user_attr('sweep', mine)
    elif changed:
      raise ConfigError(
        f'the study {self.optuna.study_name!r} was begun with another sweep; '
        "choose another --workdir, whose name is also the study's:\n  "
        + '\n  '.join(changed.values())
      )


def trial_folder(workdir: Path | str, number: int) -> Path:
  """A trial's folder, which is a run's."""
  return Path(workdir) / 'trials' / str(number)


def _is_local(path: str) -> bool:
  """Whether workers may differ in a field of the description."""
  in_mixture = path.startswith('base.data.mixture.')
  return path.startswith(_LOCAL) or (in_mixture and path.endswith('.data_dir'))
