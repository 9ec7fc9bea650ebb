"""The task of drawing images of texts by their tokens."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from mmjax import objectives
from mmjax.data.features import Feature
from mmjax.errors import ConfigError
from mmjax.models import predict_tokens
from mmjax.tasks import denoise, draw
from mmjax.types import FieldInfo, Size

# Settings of `Draw` that mean nothing here.
DIFFUSION = (
  'schedule',
  'prediction',
  'shift',
  'time_sampler',
  'min_snr',
  'sampler',
  'spacing',
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DrawTokens(draw.Draw):
  """The model draws images of texts as tokens, many of them at each step.

  MaskGIT and Muse: the model 'maskgit' predicts hidden tokens of an
  autoencoder. It is judged as `Draw` is, whose other settings, those of
  diffusion, are refused.

  Attributes:
    drop_condition: fraction of examples that are trained without their text.
    steps: number of steps of a drawing.
    guidance: factor of classifier-free guidance; 1 for none.
    temperature: temperature of the confidence at the first step.
  """

  maker: ClassVar[Any] = staticmethod(predict_tokens.make_draw_tokens)

  evaluation_only: ClassVar[tuple[str, ...]] = (
    *draw.Draw.evaluation_only,
    'temperature',
  )

  steps: Size = 8
  guidance: denoise.Guidance = 3.0
  temperature: Annotated[float, FieldInfo(minimum=0)] = 4.5

  def objective(
    self, features: Mapping[str, Feature]
  ) -> objectives.MaskedImageTokens:
    del features
    return objectives.MaskedImageTokens(
      self.feature, self.condition, self.drop_condition
    )

  def check(self) -> None:
    refuse_other(self, DIFFUSION, 'of diffusion')
    denoise.check_guidance(self.guidance, self.drop_condition)

  def sampler_settings(self) -> dict[str, Any]:
    return {
      'objective': self.objective({}),
      'steps': self.steps,
      'temperature': float(self.temperature),
      'guidance': float(self.guidance),
    }


def refuse_other(task: draw.Draw, names: Sequence[str], whose: str) -> None:
  """Refuses settings of `Draw` that mean nothing to a task.

  Args:
    task: the task.
    names: their names.
    whose: what they are of, for the message.

  Raises:
    ConfigError: naming one that is set.
  """
  for name in names:
    if getattr(task, name) != getattr(draw.Draw, name):
      raise ConfigError(
        f'{name}={getattr(task, name)!r} is {whose} alone; leave it out'
      )
