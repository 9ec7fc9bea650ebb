"""The task of drawing images of texts as tokens that are written in order."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from mmjax import objectives
from mmjax.data.features import Feature
from mmjax.models import predict_tokens
from mmjax.tasks import denoise, draw, draw_tokens
from mmjax.types import FieldInfo


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerateImage(draw.Draw):
  """The model writes images after texts, one token after another.

  As Janus does: a decoder over text and tokens of images, that may be trained
  in the same step to write captions and answers. It is judged as `Draw` is,
  whose other settings, those of diffusion and of steps, are refused.

  Attributes:
    drop_condition: fraction of examples that are trained with a void text.
    guidance: factor of classifier-free guidance; 1 for none.
    temperature: temperature of sampling; 0 for the likeliest tokens.
    top_k: number of likeliest tokens to sample from; 0 for all.
    top_p: least probability that the tokens to sample from have together.
  """

  maker: ClassVar[Any] = staticmethod(predict_tokens.make_write_tokens)

  evaluation_only: ClassVar[tuple[str, ...]] = (
    *draw.Draw.evaluation_only,
    'temperature',
    'top_k',
    'top_p',
  )

  guidance: denoise.Guidance = 3.0
  temperature: Annotated[float, FieldInfo(minimum=0)] = 1.0
  top_k: Annotated[int, FieldInfo(minimum=0)] = 0
  top_p: Annotated[float, FieldInfo(above=0)] = 1.0

  def objective(
    self, features: Mapping[str, Feature]
  ) -> objectives.NextImageTokens:
    del features
    return objectives.NextImageTokens(
      self.feature, self.condition, self.drop_condition
    )

  def check(self) -> None:
    self.objective({})
    names = (*draw_tokens.DIFFUSION, 'steps')
    draw_tokens.refuse_other(self, names, 'of diffusion and of masked tokens')
    denoise.check_guidance(self.guidance, self.drop_condition)

  def sampler_settings(self) -> dict[str, Any]:
    return {
      'objective': self.objective({}),
      'temperature': float(self.temperature),
      'top_k': self.top_k,
      'top_p': float(self.top_p),
      'guidance': float(self.guidance),
    }
