"""What is due after a training step."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Due:
  """What the loop does after a step, besides the step.

  Attributes:
    log: write the step's metrics.
    evaluate: run the evaluators of validation.
    save: write a checkpoint.
    last: the step was the run's last one; its evaluation and checkpoint belong
      to the run's end.
  """

  log: bool
  evaluate: bool
  save: bool
  last: bool

  def before_stopping(self) -> 'Due':
    """The same where the run stops after this step: saved, not evaluated."""
    return dataclasses.replace(self, evaluate=False, save=not self.last)


def after(train: Any, step: int, start: int) -> Due:
  """What is due after a step.

  Args:
    train: a config's section `train`.
    step: number of steps done.
    start: number of steps done before this process.

  >>> import types
  >>> train = types.SimpleNamespace(
  ...   steps=9, log_every=4, eval_every=6, checkpoint_every=3
  ... )
  >>> after(train, 6, start=0)
  Due(log=False, evaluate=True, save=True, last=False)
  >>> after(train, 9, start=0)
  Due(log=True, evaluate=False, save=False, last=True)
  """
  last = step == train.steps
  every = lambda steps: steps > 0 and step % steps == 0
  return Due(
    log=last or step == start + 1 or every(train.log_every),
    evaluate=not last and every(train.eval_every),
    save=not last and every(train.checkpoint_every),
    last=last,
  )
