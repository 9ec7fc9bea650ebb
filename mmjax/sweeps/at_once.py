"""What Optuna decides about a trial, stored at once or not at all.

Optuna stores the parameters of a trial one by one, and what its pruners note
before they have answered. A worker killed in between would leave half of it, of
which the next one would make something else. So a decision is first made with a
storage that keeps what is written to itself, then stored in one piece, and then
carried out, as often as it takes.
"""

import copy
from collections.abc import Mapping
from typing import Any

import optuna

from mmjax.sweeps import space as space_lib

# Optuna's own name for parameters that were settled before.
DRAWN = 'fixed_params'
_ASKED = 'asked'
_NEVER = {'step': -1, 'pruned': False, 'notes': {}}


class _Draft:
  """A storage whose writes of one kind go no further.

  Attributes:
    written: the arguments of each.
  """

  def __init__(self, storage: optuna.storages.BaseStorage, kind: str):
    self._storage = storage
    self.written: list[tuple[Any, ...]] = []
    setattr(self, kind, lambda *args: self.written.append(args))

  def __getattr__(self, name: str) -> Any:
    return getattr(self._storage, name)

  def get_trial(self, identity: int) -> optuna.trial.FrozenTrial:
    """A copy: Optuna also notes parameters in what it is given here."""
    return copy.deepcopy(self._storage.get_trial(identity))


def _drafted(study: optuna.Study, kind: str) -> tuple[_Draft, optuna.Study]:
  """The study with such a storage, and that."""
  draft = _Draft(study._storage, kind)
  return draft, optuna.load_study(
    study_name=study.study_name,
    storage=draft,
    sampler=study.sampler,
    pruner=study.pruner,
  )


def draw(
  space: Mapping[str, space_lib.Dimension],
  study: optuna.Study,
  identity: int,
) -> tuple[optuna.Trial, dict[str, Any]]:
  """A trial with all its parameters; the same ones whenever it is asked again.

  Args:
    space: path -> dimension.
    study: with the trial's sampler.
    identity: the storage's number of the trial, which is running.

  Returns:
    The trial, and path -> value as the study stores it.
  """
  storage = study._storage
  if DRAWN not in storage.get_trial(identity).system_attrs:
    _, drafted = _drafted(study, 'set_trial_param')
    drawn = space_lib.sample(space, optuna.Trial(drafted, identity))
    storage.set_trial_system_attr(identity, DRAWN, drawn)
  trial = optuna.Trial(study, identity)
  return trial, space_lib.sample(space, trial)


def prunes(trial: optuna.Trial, step: int) -> bool:
  """Whether a trial ends at a step; the same whenever it is asked again.

  Args:
    trial: has reported at this step.
    step: of training.
  """
  asked = trial.user_attrs.get(_ASKED, _NEVER)
  if step < asked['step']:
    return False  # Else it would not have come further.
  if step > asked['step']:
    draft, drafted = _drafted(trial.study, 'set_trial_system_attr')
    pruned = optuna.Trial(drafted, trial._trial_id).should_prune()
    notes = {key: value for _, key, value in draft.written}
    asked = {'step': step, 'pruned': bool(pruned), 'notes': notes}
    trial.set_user_attr(_ASKED, asked)
  return _carried_out(trial, asked)


def is_pruned(trial: optuna.Trial) -> bool:
  """Whether it was decided before that the trial ends early."""
  return _carried_out(trial, trial.user_attrs.get(_ASKED, _NEVER))


def _carried_out(trial: optuna.Trial, asked: Mapping[str, Any]) -> bool:
  for key, value in asked['notes'].items():
    trial.storage.set_trial_system_attr(trial._trial_id, key, value)
  return asked['pruned']
