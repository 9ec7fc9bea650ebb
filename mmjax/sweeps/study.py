"""A sweep's study: which trials there are, who runs them, their results."""

import contextlib
import copy
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna

from mmjax.config import settings
from mmjax.errors import ConfigError
from mmjax.sweeps import lease as lease_lib
from mmjax.sweeps import search
from mmjax.sweeps import space as space_lib
from mmjax.sweeps import storage as storage_lib
from mmjax.sweeps import sweep as sweep_lib

State = optuna.trial.TrialState
Frozen = optuna.trial.FrozenTrial
# User attribute of a retry: the number of the trial that failed.
RETRY_OF = 'retry_of'
_DEATHS = 'deaths'
# A trial that ended so many workers without progress fails.
_MAX_DEATHS = 6
# Fields of a config that say where and how fast, not what is trained.
_LOCAL = (
  'config.mesh.',
  'config.data.data_dir',
  'config.data.num_threads',
  'config.data.num_workers',
  'config.data.prefetch',
)


class RunningTrial:
  """A trial that is this worker's.

  Attributes:
    lease: the worker's. All methods raise LostError if another worker has
      taken over or ended the trial.
    trial: Optuna's.
    values: path -> value of the config.
  """

  def __init__(
    self,
    lease: lease_lib.Lease,
    trial: optuna.Trial,
    values: Mapping[str, Any],
  ):
    self.lease, self.trial, self.values = lease, trial, dict(values)

  @property
  def number(self) -> int:
    """The trial's, which stays with it whoever runs it."""
    return self.trial.number

  def check(self) -> None:
    """Makes sure that the trial is still this worker's."""
    self._call(self.lease.check)

  def report(self, step: int, value: float, *, prunes: bool) -> bool:
    """Stores an evaluation; whether the pruner ends the trial here.

    Steps that a worker before reported are not reported again.
    """
    return self._call(self._report, step, value, prunes)

  def note(self, **attributes: Any) -> None:
    """Stores facts with the trial."""
    for name, value in attributes.items():
      self._call(self.trial.set_user_attr, name, value)

  def died(self, error: str) -> None:
    """Stores that the trial ends this worker, and is left to the next one."""
    self.check()
    deaths = _deaths(_frozen(self.trial))
    self.note(deaths=deaths | {'count': deaths['count'] + 1, 'error': error})

  def complete(self, values: Sequence[float]) -> None:
    """Ends the trial with its metrics."""
    self._end(State.COMPLETE, list(values))

  def prune(self) -> None:
    """Ends the trial early; its last report counts as its metric."""
    self._end(State.PRUNED)

  def fail(self, reason: str) -> None:
    """Ends the trial without a metric."""
    self.check()
    self.note(reason=reason)
    self._end(State.FAIL)

  def _report(self, step: int, value: float, prunes: bool) -> bool:
    self.lease.check()
    trial = _frozen(self.trial)
    if step < (trial.last_step or 0):
      return False  # Otherwise it would not have come further.
    if step not in trial.intermediate_values:
      self.trial.report(value, step)
    return prunes and self.trial.should_prune()

  def _end(self, state: State, values: list[float] | None = None) -> None:
    self.check()
    self._call(
      self.trial.study.tell,
      self.trial,
      values,
      state=state,
      skip_if_finished=True,  # It was ended, but the answer was lost.
    )

  def _call(self, function: Callable[..., Any], *args: Any, **kwargs: Any):
    try:
      return storage_lib.with_retry(function, *args, **kwargs)
    except optuna.exceptions.UpdateFinishedTrialError as error:
      raise lease_lib.LostError(
        f'another worker has ended trial {self.number}'
      ) from error


class Study:
  """The study as a worker's first host uses it.

  Attributes:
    optuna: Optuna's study, to read.

  Args:
    sweep: what is searched.
    storage: where.
    name: the study's; that of the sweep's folder.
    grace: seconds without a heartbeat after which a worker is dead.

  Raises:
    ConfigError: if the storage has a study of this name about something else.
  """

  def __init__(
    self,
    sweep: sweep_lib.Sweep,
    storage: optuna.storages.BaseStorage,
    name: str,
    *,
    grace: float = lease_lib.GRACE,
  ):
    self._sweep, self._storage = sweep, storage
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    self.optuna = optuna.create_study(
      storage=storage,
      study_name=name,
      directions=sweep.directions,
      load_if_exists=True,
    )
    self._leases = lease_lib.Leases(grace=grace)
    self._agree()
    self._note(trials=sweep.trials)

  def trials(self) -> list[Frozen]:
    """The sweep's trials that exist so far, by number.

    Workers that add a trial or a retry in the same moment add one too many,
    which never begins: the first ones by number count.
    """
    count, retried, out = 0, set(), []
    for trial in self.optuna.get_trials(deepcopy=False):
      failed = trial.user_attrs.get(RETRY_OF)
      if failed is None and count < self._sweep.trials:
        count += 1
        out.append(trial)
      elif failed is not None and failed not in retried:
        retried.add(failed)
        out.append(trial)
    return out

  def retry_failed(self) -> None:
    """Adds a trial with the values of each that failed and has no such one."""
    storage_lib.with_retry(self._retry_failed)

  def take(
    self, saved: Callable[[int], int] = lambda number: 0
  ) -> RunningTrial | None:
    """Takes the next trial to run: one whose worker died, else a new one.

    One that ended six workers without progress in between fails.

    Args:
      saved: number of a trial -> steps in its newest checkpoint.

    Returns:
      None if there is none now; see `done`.
    """
    return storage_lib.with_retry(self._take, saved)

  def done(self) -> bool:
    """Whether every trial has ended."""
    trials = storage_lib.with_retry(self.trials)
    return not self._missing(trials) and all(
      trial.state.is_finished() for trial in trials
    )

  def living(self) -> set[int]:
    """Numbers of the trials that a living worker runs."""
    running = self.optuna.get_trials(deepcopy=False, states=(State.RUNNING,))
    return {trial.number for trial in running if self._leases.alive(trial)}

  def _note(self, **attributes: Any) -> None:
    for name, value in attributes.items():
      if self.optuna.user_attrs.get(name) != value:
        self.optuna.set_user_attr(name, value)

  def _retry_failed(self) -> None:
    trials = self.trials()
    retried = {trial.user_attrs.get(RETRY_OF) for trial in trials}
    for trial in trials:
      if trial.state == State.FAIL and trial.number not in retried:
        self.optuna.enqueue_trial(
          trial.params, user_attrs={RETRY_OF: trial.number}
        )

  def _missing(self, trials: Sequence[Frozen]) -> int:
    """Number of the sweep's trials that do not exist yet."""
    return self._sweep.trials - sum(not _is_retry(trial) for trial in trials)

  def _take(self, saved: Callable[[int], int]) -> RunningTrial | None:
    while True:
      trials = self.trials()
      for trial in trials:
        if not trial.state.is_finished() and not self._leases.alive(trial):
          taken = self._begin(trial.number, saved)
          if taken is not None:
            return taken
      if not self._missing(trials):
        return None
      # Other workers leave it alone, since its owner is alive.
      owner = self._leases.identity()
      self.optuna.enqueue_trial({}, user_attrs={lease_lib.OWNER: owner})

  def _begin(
    self, number: int, saved: Callable[[int], int]
  ) -> RunningTrial | None:
    """Takes a trial; None if another worker was faster, or it fails now."""
    study, storage = self._load(number), self._storage
    # To make a Trial and to call a storage is public in Optuna, but not meant
    # for its users, so that setup.cfg bounds its version. `Study.ask` can't
    # resume a trial.
    identity = storage.get_trial_id_from_study_id_trial_number(
      storage.get_study_id_from_name(study.study_name), number
    )
    trial = optuna.Trial(study, identity)
    # A copy, since storages change the trials that they returned.
    before = copy.deepcopy(_frozen(trial))
    if before.state.is_finished() or self._leases.alive(before):
      return None
    with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
      if before.state == State.WAITING and (
        not storage.set_trial_state_values(identity, State.RUNNING)
      ):
        return None
      lease = lease_lib.Lease(self._leases, trial)
      if before.state == State.RUNNING:
        trial.set_user_attr('taken', before.user_attrs.get('taken', 0) + 1)
        if self._fails(trial, before, saved):
          return None
      values = space_lib.sample(self._sweep.space, trial)
      trial.set_user_attr('values', values)
      return RunningTrial(lease, trial, values)
    return None

  def _load(self, number: int) -> optuna.Study:
    """Optuna's study with the sampler of one trial."""
    train, sweep = self._sweep.base.train, self._sweep
    before = self.optuna.get_trials(deepcopy=False)[:number]
    index = sum(not _is_retry(trial) for trial in before)
    return optuna.load_study(
      study_name=self.optuna.study_name,
      storage=self._storage,
      sampler=search.sampler(
        sweep.sampler,
        sweep.space,
        seed=sweep.seed,
        number=number,
        index=min(index, sweep.trials - 1),  # A retry's values are fixed.
      ),
      pruner=search.pruner(
        sweep.pruner, steps=train.steps, every=train.eval_every
      ),
    )

  def _fails(
    self, trial: optuna.Trial, frozen: Frozen, saved: Callable[[int], int]
  ) -> bool:
    """Counts a worker that died, and fails a trial that ended too many."""
    deaths = _deaths(frozen, saved(frozen.number))
    if frozen.user_attrs.get(lease_lib.OWNER) and (
      not self._leases.is_mine(frozen)
    ):
      deaths['count'] += 1
    trial.set_user_attr(_DEATHS, deaths)
    if deaths['count'] < _MAX_DEATHS:
      return False
    cause = deaths['error'] and f'; the last error was {deaths["error"]}'
    trial.set_user_attr(
      'reason',
      f'it ended {deaths["count"]} workers after step {deaths["step"]} without '
      'progress' + (cause or ', which were killed, as where memory ends'),
    )
    trial.study.tell(trial, state=State.FAIL, skip_if_finished=True)
    return True

  def _agree(self) -> None:
    """Refuses to resume another sweep than the study began with."""
    mine = json.loads(json.dumps(self._sweep.identity()))
    stored = self.optuna.user_attrs.get('sweep')
    if stored is None:
      self._note(
        file=self._sweep.file,
        location=self._sweep.location,
        overrides=dict(self._sweep.overrides),
        sweep=mine,  # The last one, since it says that all are stored.
      )
      return
    old, new = settings.leaves(stored), settings.leaves(mine)
    changed = {
      path: f'{path}: {old.get(path)!r} -> {new.get(path)!r}'
      for path in sorted({**old, **new})
      if old.get(path) != new.get(path) and not path.startswith(_LOCAL)
    }
    judged = any(
      trial.state.is_finished() or trial.intermediate_values
      for trial in self.trials()
    )
    if set(changed) == {'metric'} and not judged and not self.living():
      self._note(sweep=mine)  # The evaluators did not have the one before.
    elif changed:
      raise ConfigError(
        f'the study {self.optuna.study_name!r} was begun with another sweep:\n'
        '  ' + '\n  '.join(changed.values()) + '\nchoose another --workdir, '
        "whose name is also the study's"
      )


def _is_retry(trial: Frozen) -> bool:
  """Whether the trial is a further attempt at one that failed."""
  return RETRY_OF in trial.user_attrs


def exists(storage: optuna.storages.BaseStorage, name: str) -> bool:
  """Whether there is a sweep's study of this name."""
  if name not in optuna.get_all_study_names(storage):
    return False
  study = optuna.load_study(study_name=name, storage=storage)
  return 'sweep' in study.user_attrs


def _deaths(trial: Frozen, saved: int = 0) -> dict[str, Any]:
  """Workers that a trial ended since its last progress: step, count, error."""
  deaths = trial.user_attrs.get(_DEATHS, {'step': -1})
  step = max(saved, trial.last_step or 0)
  if step <= deaths['step']:
    return dict(deaths)
  return {'step': step, 'count': 0, 'error': ''}


def _frozen(trial: optuna.Trial) -> Frozen:
  """What the storage has of a trial now."""
  return trial.study.get_trials(deepcopy=False)[trial.number]
