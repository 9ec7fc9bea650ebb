"""A sweep's study: which trials there are, who runs them, what came out."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna

from mmjax.errors import ConfigError
from mmjax.sweeps import at_once, search, tries
from mmjax.sweeps import claims as claims_lib
from mmjax.sweeps import space as space_lib
from mmjax.sweeps import storage as storage_lib
from mmjax.sweeps import sweep as sweep_lib

State = optuna.trial.TrialState
Frozen = optuna.trial.FrozenTrial
_RETRIES = 'retries'
# Fields of a config that say where and how fast, not what is trained.
_ELSEWHERE = (
  'config.mesh.',
  'config.data.data_dir',
  'config.data.num_threads',
  'config.data.num_workers',
  'config.data.prefetch',
)


class Taken:
  """A trial that is this worker's.

  Attributes:
    claim: holds it.
    trial: to report to.
    values: path -> value of the config.
  """

  def __init__(
    self,
    study: 'Study',
    claim: claims_lib.Claim,
    trial: optuna.Trial,
    values: Mapping[str, Any],
  ):
    self._study, self.claim, self.trial = study, claim, trial
    self.values = dict(values)

  @property
  def number(self) -> int:
    """The trial's, which stays with it whoever runs it."""
    return self.trial.number

  @property
  def pruned(self) -> bool:
    """Whether it was decided before that the trial ends early."""
    return storage_lib.patiently(at_once.is_pruned, self.trial)

  def check(self) -> None:
    """Makes sure that the trial is still this worker's.

    Raises:
      claims.Lost: if it isn't.
    """
    storage_lib.patiently(self.claim.check)

  def report(self, step: int, value: float, *, prunes: bool) -> bool:
    """Notes an evaluation; whether the trial shall end here.

    A step that a worker before reported is the same again, to the bit.
    """
    return storage_lib.patiently(self._report, step, value, prunes)

  def note(self, **attributes: Any) -> None:
    """Keeps facts with the trial."""
    for name, value in attributes.items():
      storage_lib.patiently(self.trial.set_user_attr, name, value)

  def erred(self, error: str) -> None:
    """Notes that the trial ends this worker, and is left to the next one."""
    storage_lib.patiently(self._erred, error)

  def finish(self, values: Sequence[float]) -> None:
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
    self.claim.check()
    frozen = self._study.trial(self.number)
    if step not in frozen.intermediate_values:
      self.trial.report(value, step)
    return prunes and at_once.prunes(self.trial, step)

  def _erred(self, error: str) -> None:
    self.claim.check()
    found = tries.of(self._study.trial(self.number))
    found |= {'errors': found['errors'] + 1, 'error': error}
    self.trial.set_user_attr(tries.NAME, found)

  def _end(self, state: State, values: list[float] | None = None) -> None:
    self.check()
    storage_lib.patiently(
      self.trial.study.tell,
      self.trial,
      values,
      state=state,
      skip_if_finished=True,  # Told before, with the answer lost.
    )


class Study:
  """The first host's view of the study; any number of workers have one.

  Attributes:
    whole: Optuna's study, to read.

  Args:
    sweep: what is searched.
    storage: where.
    name: the study's; that of the sweep's folder.
    grace: seconds without a heartbeat after which a worker counts as dead.

  Raises:
    ConfigError: if the storage has a study of this name about something else.
  """

  def __init__(
    self,
    sweep: sweep_lib.Sweep,
    storage: optuna.storages.BaseStorage,
    name: str,
    *,
    grace: float = claims_lib.GRACE,
  ):
    self.sweep, self.storage, self.name = sweep, storage, name
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    self.whole = optuna.create_study(
      storage=storage,
      study_name=name,
      directions=sweep.directions,
      load_if_exists=True,
    )
    self._id = storage.get_study_id_from_name(name)
    self._claims = claims_lib.Claims(storage, name, grace=grace)
    self._agree()

  def trials(self) -> list[Frozen]:
    """All trials, by number."""
    return self.whole.get_trials(deepcopy=False)

  def trial(self, number: int) -> Frozen:
    """One trial as the storage has it now."""
    return self.storage.get_trial(self._trial_id(number))

  def note(self, **attributes: Any) -> None:
    """Keeps facts about the study."""
    for name, value in attributes.items():
      self.whole.set_user_attr(name, value)

  def queue(self, *, retry_failed: bool = False) -> None:
    """Makes sure that there are as many trials as the sweep asks for.

    They are made in advance, by one worker, so that there never is one too
    many, however many workers begin at once.

    Args:
      retry_failed: whether there shall also be a new one with the values of
        each that failed, since one that has ended can't begin again.
    """
    while not storage_lib.patiently(self._queued, retry_failed):
      time.sleep(0.2)

  def take(
    self, saved: Callable[[int], int] = lambda number: 0
  ) -> Taken | None:
    """The next trial to run: one whose worker died, else a new one.

    One that ended several workers, and came no further, is the last to be
    taken, and fails in the end; see `tries`.

    Args:
      saved: number of a trial -> steps in its newest checkpoint.

    Returns:
      None if there is none to be had now; see `done`.
    """
    return storage_lib.patiently(self._take, saved)

  def done(self) -> bool:
    """Whether every trial has ended."""
    trials = storage_lib.patiently(self.trials)
    return all(trial.state.is_finished() for trial in trials)

  def living(self) -> set[int]:
    """Numbers of the trials that a living worker runs."""
    jobs = (job.partition(' ') for job in self._claims.living())
    return {int(number) for kind, _, number in jobs if kind == 'trial'}

  def _queued(self, retry_failed: bool) -> bool:
    if not self._missing(retry_failed):
      return True
    claim = self._claims.take('queue')
    if claim is None:
      return False
    with claim:
      for attributes in self._missing(retry_failed):
        self.whole.add_trial(
          optuna.trial.create_trial(state=State.WAITING, **attributes)
        )
    return True

  def _missing(self, retry_failed: bool) -> list[dict[str, Any]]:
    """What is special about each trial that is to be made."""
    trials = self.trials()
    retried = [
      trial.user_attrs[_RETRIES]
      for trial in trials
      if _RETRIES in trial.user_attrs
    ]
    new = self.sweep.trials - (len(trials) - len(retried))
    again = [
      {
        'user_attrs': {_RETRIES: trial.number},
        'system_attrs': {at_once.DRAWN: trial.system_attrs[at_once.DRAWN]},
      }
      for trial in trials
      if trial.state == State.FAIL and trial.number not in retried
    ]
    return [{}] * new + (again if retry_failed else [])

  def _take(self, saved: Callable[[int], int]) -> Taken | None:
    living = set(self._claims.living())

    def order(trial: Frozen) -> int:
      if trial.state == State.WAITING:
        return 1
      # Folders are looked into only where it matters.
      doubted = tries.is_doubted(tries.of(trial)) and tries.is_doubted(
        tries.of(trial, saved(trial.number))
      )
      return 2 if doubted else 0

    open_ = [t for t in self.trials() if not t.state.is_finished()]
    for trial in sorted(open_, key=order):
      job = f'trial {trial.number}'
      if job in living:
        continue
      claim = self._claims.take(job)
      if claim is None:
        continue
      # It may have ended since, or does so now.
      if not self.trial(trial.number).state.is_finished() and (
        not self._given_up(claim, trial.number, saved)
      ):
        return self._begin(claim, trial.number)
      with claim:
        pass
    return None

  def _given_up(
    self, claim: claims_lib.Claim, number: int, saved: Callable[[int], int]
  ) -> bool:
    """Counts a worker that died, and fails a trial that ended too many."""
    trial, identity = self.trial(number), self._trial_id(number)
    if trial.state != State.RUNNING:
      return False
    found = tries.of(trial, saved(number))
    found['deaths'] += claim.inherited
    self.storage.set_trial_user_attr(identity, tries.NAME, found)
    reason = tries.why_given_up(found)
    if reason:
      self.storage.set_trial_user_attr(identity, 'reason', reason)
      self.storage.set_trial_state_values(identity, State.FAIL)
    return bool(reason)

  def _begin(self, claim: claims_lib.Claim, number: int) -> Taken:
    train, sweep = self.sweep.base.train, self.sweep
    # A study of its own: Optuna's remembers trials from one `ask` to the next.
    study = optuna.load_study(
      study_name=self.name,
      storage=self.storage,
      sampler=search.sampler(
        sweep.sampler, sweep.space, seed=sweep.seed, number=number
      ),
      pruner=search.pruner(
        sweep.pruner, steps=train.steps, every=train.eval_every
      ),
    )
    study.get_trials(deepcopy=False)  # Its cache knows trials it has read.
    identity = self._trial_id(number)
    if self.trial(number).state == State.WAITING:
      self.storage.set_trial_state_values(identity, State.RUNNING)
    trial, stored = at_once.draw(sweep.space, study, identity)
    taken = Taken(self, claim, trial, space_lib.values(sweep.space, stored))
    taken.note(values=taken.values, taken=claim.taken)
    return taken

  def _trial_id(self, number: int) -> int:
    return self.storage.get_trial_id_from_study_id_trial_number(
      self._id, number
    )

  def _agree(self) -> None:
    """Refuses to go on with another sweep than the study began with."""
    mine = json.loads(json.dumps(self.sweep.identity()))
    theirs = self.whole.user_attrs.get('sweep')
    if theirs is None:
      self.note(
        file=self.sweep.file,
        location=self.sweep.location,
        overrides=dict(self.sweep.overrides),
        sweep=mine,  # The last one, since it says that all are there.
      )
      return
    changed = {
      path: f'{path}: {old!r} -> {new!r}'
      for path, old, new in _differences(theirs, mine)
      if not path.startswith(_ELSEWHERE)
    }
    renames = len(mine['metric']) == len(theirs['metric'])
    if set(changed) == {'metric'} and renames and self._unjudged():
      self.note(sweep=mine)  # The one before was not there, most likely.
    elif changed:
      raise ConfigError(
        f'the study {self.name!r} was begun with another sweep:\n  '
        + '\n  '.join(changed.values())
        + "\nchoose another --workdir, whose name is also the study's"
      )

  def _unjudged(self) -> bool:
    """Whether the metric was of no consequence so far."""
    return not self.living() and not any(
      trial.state.is_finished() or trial.intermediate_values
      for trial in self.trials()
    )


def begun(storage: optuna.storages.BaseStorage, name: str) -> bool:
  """Whether there is a sweep's study of this name."""
  if name not in optuna.get_all_study_names(storage):
    return False
  study = optuna.load_study(study_name=name, storage=storage)
  return 'sweep' in study.user_attrs


def _differences(old: Any, new: Any, path: str = ''):
  """Yields (path, old, new) of leaves in which two trees differ."""
  if isinstance(old, dict) and isinstance(new, dict):
    for name in sorted(old.keys() | new.keys()):
      below = f'{path}.{name}' if path else name
      yield from _differences(old.get(name), new.get(name), below)
  elif old != new:
    yield path, old, new
