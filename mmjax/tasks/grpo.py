"""The task of answering so that a function's reward rises."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

import flax.linen as nn

from mmjax import evaluators, objectives
from mmjax.data import preprocess, sources
from mmjax.data.features import Feature, Prompt, media_kinds
from mmjax.errors import ConfigError
from mmjax.models import predict
from mmjax.tasks import base, chat, rollouts
from mmjax.types import FieldInfo, Positive

# (answer, record) -> reward.
Reward = Callable[[str, Mapping[str, Any]], float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grpo(chat.Chat):
  """The model's own answers to prompts are trained by their rewards.

  Group relative policy optimisation (Shao et al. 2024). Before each update, the
  model writes `group` answers to each prompt of the batch, with the parameters
  that are then updated. An answer's advantage is its reward beside those of the
  others. `make_grpo` makes a task of a reward. A trained run chats.

  Attributes:
    target: feature of the kind prompt.
    image: feature of the image to which conversations refer, the same as the
      setting `image` of the target; '' for none.
    sound: the same of sounds.
    group: number of answers to a prompt.
    temperature: temperature of sampling.
    clip: as of `mmjax.objectives.GroupPolicy`.
    clip_high: as of `mmjax.objectives.GroupPolicy`.
    beta: factor on the distance to the model that the run starts from; 0 for
      none, which needs no second model.
    scale_by_std: whether advantages are divided by their group's standard
      deviation; False for Dr. GRPO (Liu et al. 2025).
    normalize_length: whether an answer's loss is the mean over its tokens;
      False for their sum divided by `max_new_tokens` (Dr. GRPO).
    max_new_tokens: largest number of tokens of an answer.
    reward: (answer, record) -> number.
  """

  name: ClassVar[str] = 'grpo'
  kinds: ClassVar[tuple[type[Feature], ...]] = (Prompt,)
  reward: ClassVar[Reward]
  evaluation_only: ClassVar[tuple[str, ...]] = ()  # It writes in training.

  target: str = 'prompt'
  group: Annotated[int, FieldInfo(minimum=2)] = 8
  temperature: Positive = 1.0
  clip: Positive = 0.2
  clip_high: Positive | None = None
  beta: Annotated[float, FieldInfo(minimum=0)] = 0.0
  scale_by_std: bool = True
  normalize_length: bool = True

  @property
  def report_rows(self) -> tuple[base.ReportRow, ...]:
    return (base.ReportRow(f'{self.target} reward', f'{self.target}/reward'),)

  def objective(self, features: Mapping[str, Feature]) -> Any:
    del features
    if self.label_smoothing:
      raise ConfigError(
        f'tasks.grpo.label_smoothing={self.label_smoothing}: there are no '
        'labels; leave it out'
      )
    settings = {
      'target': self.target,
      'temperature': self.temperature,
      'clip': self.clip,
      'clip_high': self.clip_high,
      'length': 0 if self.normalize_length else self.max_new_tokens,
    }
    if not self.beta:
      return objectives.GroupPolicy(**settings)
    return objectives.ReferencedGroupPolicy(**settings, beta=self.beta)

  def check_beside(self, tasks: Mapping[str, base.Task]) -> None:
    others = [name for name, task in tasks.items() if task is not self]
    if others:
      raise ConfigError(
        f'tasks.{others[0]} is beside tasks.grpo, which trains on what the '
        'model writes; train them one after the other, with init_from'
      )

  def make_rollout(
    self,
    model: nn.Module,
    source: sources.Source,
    preprocessor: preprocess.Preprocessor,
  ) -> rollouts.GroupRollout:
    feature, decoder = preprocessor[self.target], model.decoder
    for name, media in feature.media_features.items():
      if media_kinds.has_grids(media):
        raise ConfigError(
          f'data.features.{name}.kind={media.kind}: answers have no rows and '
          'columns yet; use images of the kind images'
        )
    length = feature.length
    wanted = length + self.max_new_tokens
    if decoder.positions != 'none' and wanted > decoder.max_length:
      raise ConfigError(
        f'data.features.{self.target}.length={length} and tasks.grpo.'
        f'max_new_tokens={self.max_new_tokens} are {wanted} positions, but the '
        f'decoder has {decoder.max_length}; make them smaller, or set '
        f'model.decoder.max_length={wanted} in a new model'
      )
    return rollouts.GroupRollout(
      model,
      preprocessor,
      source,
      rollouts.check_reward('grpo', type(self).reward),
      self.target,
      self.group,
      self.max_new_tokens,
      self.temperature,
      self.scale_by_std,
    )

  def evaluators(
    self, context: base.EvalContext
  ) -> dict[str, evaluators.Evaluator]:
    name = f'{context.prefix}{self.target}'
    rewards = evaluators.Rewards(
      predict.make_generate(
        context.model,
        beam_size=context.config.eval.beam_size,
        **self.generation_settings(
          context.preprocessor.tokenizer, self.max_new_tokens
        ),
      ),
      context.source,
      context.preprocessor,
      target=self.target,
      find_reward=rollouts.check_reward('grpo', type(self).reward),
      name=name,
      **context.settings(),
    )
    return {name: rewards}


def make_grpo(reward: Reward) -> type[Grpo]:
  """The task `Grpo` of a reward, for the tasks of an experiment's builder.

  Args:
    reward: function from an answer's text, without the token that ends it, and
      the record that its prompt is from to a number. It is called for each
      answer in training and evaluation, in this process.
  """
  return type('Grpo', (Grpo,), {'reward': staticmethod(reward)})
