"""How often a trial may end its worker until it is given up.

A trial whose worker is gone is taken up again, and one that needs more memory
than there is would end each worker that takes it. What counts is how many it
has ended since it last came further: a trial that is preempted again and again,
and comes further in between, goes on for as long as it takes.

With several hosts, workers end by errors, which they note before: one of a few
hosts was lost, or all meet the same again. Where nothing was noted, a worker
was killed: by a person, a scheduler, or a machine that had no more memory.
"""

from collections.abc import Mapping
from typing import Any

import optuna

NAME = 'tries'
# From so many on, other trials come first; from so many on, it fails.
_DOUBTS = {'errors': 2, 'deaths': 6}
_ENDS = {'errors': 3, 'deaths': 10}
_NONE = {'step': 0, 'errors': 0, 'deaths': 0, 'error': ''}


def of(trial: optuna.trial.FrozenTrial, saved: int = 0) -> dict[str, Any]:
  """The tries of a trial since it last came further.

  Args:
    trial: as stored.
    saved: steps in its newest checkpoint.

  Returns:
    `step` that it came to, number of `errors` and `deaths`, the last `error`.
  """
  tries = trial.user_attrs.get(NAME, _NONE)
  step = max(saved, trial.last_step or 0)
  return dict(tries) if step <= tries['step'] else _NONE | {'step': step}


def is_doubted(tries: Mapping[str, Any]) -> bool:
  """Whether other trials come first."""
  return any(tries[kind] >= most for kind, most in _DOUBTS.items())


def why_given_up(tries: Mapping[str, Any]) -> str:
  """Why a trial fails for its tries; '' if it doesn't."""
  if not any(tries[kind] >= most for kind, most in _ENDS.items()):
    return ''
  reason = f'it came no further than step {tries["step"]}, and ended '
  if tries['errors'] < _ENDS['errors']:
    return reason + (
      f'{tries["deaths"]} workers, which were killed before they could say '
      'why; the kernel or the scheduler may have noted it, as where memory ends'
    )
  return reason + f'{tries["errors"]} workers; the last one by {tries["error"]}'
