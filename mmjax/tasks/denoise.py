"""What the tasks that take noise out of something have in common."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, TypeVar

import numpy as np

from mmjax import objectives, ops
from mmjax.data.features import Feature
from mmjax.errors import ConfigError, check_choice
from mmjax.ops import denoising
from mmjax.tasks import base
from mmjax.types import FieldInfo, Fraction, Positive, Size

Guidance = Annotated[float, FieldInfo(minimum=0)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Denoise(base.Task):
  """Base of the tasks that draw something of a text out of noise.

  Attributes:
    feature: feature of the kind image.
    schedule: noise schedule, 'flow', 'linear', 'scaled_linear' or 'cosine', as
      of `mmjax.ops.NoiseSchedule`.
    prediction: what the model predicts: 'velocity' (with 'flow'), 'epsilon',
      'x' or 'v'.
    shift: shift of the times of the schedule 'flow', for large images.
    time_sampler: distribution of times in training, 'uniform' or
      'logit_normal'.
    min_snr: gamma of min-SNR weighting; None for none.
    drop_condition: fraction of examples that are trained without their text.
    sampler: 'ddpm', 'ddim', 'euler', 'heun' or 'dpm++'.
    spacing: spacing of a sampler's times: 'trailing', 'leading' or 'linspace'.
    steps: number of a sampler's steps.
    guidance: factor of classifier-free guidance; 1 for none.
  """

  # The text feature that says what to draw, which the models read by this name.
  condition: ClassVar[str] = 'text'
  evaluation_only: ClassVar[tuple[str, ...]] = (
    'sampler',
    'spacing',
    'steps',
    'guidance',
  )

  feature: str = 'image'
  schedule: str = 'flow'
  prediction: str = 'velocity'
  shift: Positive = 1.0
  time_sampler: str = 'uniform'
  min_snr: Positive | None = None
  drop_condition: Fraction = 0.1
  sampler: str = 'dpm++'
  spacing: str = 'trailing'
  steps: Size = 20
  guidance: Guidance = 2.0

  def objective(self, features: Mapping[str, Feature]) -> objectives.Denoising:
    del features
    return objectives.Denoising(
      feature=self.feature,
      condition=self.condition,
      schedule=ops.NoiseSchedule(self.schedule, self.prediction, self.shift),
      time_sampler=self.time_sampler,
      min_snr=self.min_snr,
      drop_condition=self.drop_condition,
    )

  def check(self) -> None:
    schedule = self.objective({}).schedule
    check_choice(self.sampler, denoising.SAMPLERS, 'sampler')
    ops.make_step_table(schedule, self.steps, self.spacing)
    check_guidance(self.guidance, self.drop_condition)

  def batch_keys(self) -> tuple[str, ...]:
    return (self.feature, self.condition)

  def sampler_settings(self) -> dict[str, Any]:
    """Arguments of `predict.make_draw`, but for the shape."""
    return {
      'objective': self.objective({}),
      'steps': self.steps,
      'sampler': self.sampler,
      'spacing': self.spacing,
      'guidance': float(self.guidance),
    }


def check_guidance(guidance: float, drop_condition: float) -> None:
  """Refuses guidance that a model can't be given.

  Args:
    guidance: factor of classifier-free guidance.
    drop_condition: fraction of examples that it is trained on without a text.

  Raises:
    ConfigError: if it is below 0, or needs a half that is not trained.
  """
  if not 0 <= guidance < math.inf:
    raise ConfigError(
      f'guidance={guidance} is not legal; use a finite number from 0'
    )
  if guidance != 1 and not drop_condition:
    raise ConfigError(
      f'guidance={guidance} needs a model that was trained without a text too; '
      'train with drop_condition above 0, or use guidance=1'
    )


_TaskType = TypeVar('_TaskType', bound=base.Task)


def choose(task: _TaskType, **chosen: Any) -> _TaskType:
  """A task with other settings; those that are None stay.

  Raises:
    ConfigError: if they are not legal.
  """
  named = {name: value for name, value in chosen.items() if value is not None}
  changed = dataclasses.replace(task, **named)
  changed.check()
  return changed


def make_of_texts(
  run: base.TrainedModel,
  task: Any,
  texts: str | Sequence[str],
  seed: int,
  **chosen: Any,
) -> np.ndarray:
  """What the maker of a task makes of each text.

  Args:
    run: the trained model.
    task: one with a `condition`, a `maker` and its `sampling` settings.
    texts: one text or several.
    seed: seed of the first text; text i gets `seed + i`.
    **chosen: other settings of the task; None for its own.

  Raises:
    ConfigError: if a text is longer than the model reads, or a setting is not
      legal.
  """
  texts = [texts] if isinstance(texts, str) else list(texts)
  batch = make_texts_batch(run, task, texts, seed)
  settings = choose(task, **chosen).sampling(run.preprocessor.features)
  return np.asarray(run.predict(task.maker, batch, **settings))


def write_no_lines(
  run: base.TrainedModel,
  inputs: Mapping[str, Any],
  texts: Sequence[str],
  beam_size: int,
) -> list[str]:
  """The lines of a task whose results go to --output: none."""
  del run, inputs, texts, beam_size
  return []


def make_seeds(seed: int, number: int) -> np.ndarray:
  """Seeds [N] of examples that are drawn together: `seed` and those after.

  Raises:
    ConfigError: if one is not an int32.
  """
  lowest, highest = -(2**31), 2**31 - number
  if not lowest <= seed <= highest:
    raise ConfigError(
      f'seed={seed} is not legal; use a whole number from {lowest} to {highest}'
    )
  return np.arange(seed, seed + number, dtype=np.int32)


def make_texts_batch(
  run: base.TrainedModel, task: Any, texts: list[str], seed: int
) -> dict[str, Any]:
  """Arrays of texts, and the seed of each, `seed` and those after it.

  Args:
    run: the trained model.
    task: one with a `condition`, the name of a text feature.
    texts: the texts.
    seed: seed of the first text.

  Raises:
    ConfigError: if a text is longer than the model reads.
  """
  feature = run.preprocessor[task.condition]
  for text in texts:
    number = run.tokenizer.count(text, as_input=feature.as_input)
    if number > feature.length:
      raise ConfigError(
        f'{text[:60]!r} has {number} tokens, but the model reads '
        f'{feature.length}; shorten it'
      )
  batch = dict(run.prepare(**{task.condition: texts}))
  batch['seed'] = make_seeds(seed, len(texts))
  return batch
