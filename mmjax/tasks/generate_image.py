"""The task of drawing images of texts as tokens that are written in order."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from mmjax import objectives
from mmjax.data.features import Feature
from mmjax.tasks import denoise, draw, draw_tokens, written_tokens


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerateImage(written_tokens.WrittenTokens, draw.Draw):
  """The model writes images after texts, one token after another.

  As Janus does: a decoder over text and tokens of images, that may be trained
  in the same step to write captions and answers. It is judged as `Draw` is,
  whose other settings, those of diffusion and of steps, are refused.

  Attributes:
    drop_condition: fraction of examples that are trained with a void text.
  """

  evaluation_only: ClassVar[tuple[str, ...]] = (
    *draw.Draw.evaluation_only,
    *written_tokens.WrittenTokens.evaluation_only,
  )

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
