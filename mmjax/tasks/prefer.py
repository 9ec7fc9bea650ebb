"""The task of preferring one of two answers."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from mmjax import evaluators, objectives
from mmjax.data.features import Feature, Preference
from mmjax.errors import ConfigError, check_choice
from mmjax.models import predict
from mmjax.nn import adapters
from mmjax.objectives import preference
from mmjax.tasks import base, chat
from mmjax.types import Params, Positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prefer(chat.Chat):
  """The model finds the preferred of two answers likelier than the other one.

  Direct preference optimisation (Rafailov et al. 2023) and its relatives, by
  `mmjax.objectives.preference_losses`. 'sigmoid', 'ipo' and 'hinge' compare
  with the model that the run starts from: where only adapters are trained, that
  is the same model without them, else a second copy. 'simpo' and 'orpo' need
  none. A trained run chats.

  Attributes:
    target: feature of the kind preference.
    image: feature of the image to which conversations refer, the same as the
      setting `image` of the target; '' for none.
    sound: the same of sounds.
    loss: 'sigmoid', 'ipo', 'hinge', 'simpo' or 'orpo'.
    beta: factor on the differences of log-probabilities; tau of ipo, lambda of
      orpo.
    gamma: margin of simpo.
    label_smoothing: probability that a preference is the other way round, of
      sigmoid and simpo.
    max_new_tokens: largest number of tokens of an answer that is written.
  """

  name: ClassVar[str] = 'prefer'
  kinds: ClassVar[tuple[type[Feature], ...]] = (Preference,)

  target: str = 'pair'
  loss: str = 'sigmoid'
  beta: Positive = 0.1
  gamma: float = 0.0

  @property
  def report_rows(self) -> tuple[base.ReportRow, ...]:
    return (
      base.ReportRow(f'{self.target} accuracy', f'{self.target}/accuracy'),
      base.ReportRow(f'{self.target} margin', f'{self.target}/margin'),
    )

  def objective(self, features: Mapping[str, Feature]) -> objectives.Preference:
    del features
    names = (*preference.REFERENCED, *preference.REFERENCE_FREE)
    if self.loss == 'dpo':
      raise ConfigError("tasks.prefer.loss='dpo': DPO's loss is 'sigmoid'")
    check_choice(self.loss, names, 'tasks.prefer.loss')
    for setting, readers in (
      ('gamma', ('simpo',)),
      ('label_smoothing', ('sigmoid', 'simpo')),
    ):
      if getattr(self, setting) and self.loss not in readers:
        raise ConfigError(
          f'tasks.prefer.{setting}={getattr(self, setting)} is not a setting '
          f'of loss={self.loss!r}, only of {" and ".join(readers)}; leave it '
          'out'
        )
    referenced = self.loss in preference.REFERENCED
    cls = (
      objectives.ReferencedPreference if referenced else objectives.Preference
    )
    return cls(
      self.target, self.loss, self.beta, self.gamma, self.label_smoothing
    )

  def batch_keys(self) -> tuple[str, ...]:
    return (*self._answers, *self.media_names)

  def required_keys(self) -> Sequence[Sequence[str]]:
    return (self._answers,)  # Pairs without an image are learnt too.

  def evaluators(
    self, context: base.EvalContext
  ) -> dict[str, evaluators.Evaluator]:
    name = f'{context.prefix}{self.target}'
    objective = self.objective(context.preprocessor.features)
    preferences = evaluators.Preferences(
      predict.make_answer_scores(context.model, objective=objective),
      context.source,
      context.preprocessor,
      objective=objective,
      find_reference=self.find_reference(context),
      name=name,
      **context.settings(),
    )
    return {name: preferences}

  def find_reference(
    self, context: base.EvalContext
  ) -> Callable[[Params], Params] | None:
    """From parameters to those of the reference; None if there is none.

    Args:
      context: the split to evaluate; of a trained run, without a frozen copy.
    """
    adapter = context.config.adapter
    for name, task in context.tasks.items():
      if task is self and name in context.frozen_params:
        return lambda params, own=context.frozen_params[name]: own
    if adapter.layers and not adapter.train:
      return lambda params: adapters.split(params)[0]
    return None

  @property
  def _answers(self) -> tuple[str, str]:
    return self.target, f'{self.target}_rejected'
