"""Settings of tasks whose model writes tokens in their order."""

import dataclasses
from typing import Annotated, Any, ClassVar

from mmjax.models import predict_tokens
from mmjax.tasks import denoise
from mmjax.types import FieldInfo


@dataclasses.dataclass(frozen=True, kw_only=True)
class WrittenTokens:
  """How the tokens of images or sounds are sampled.

  A task inherits it before its base.

  Attributes:
    guidance: factor of classifier-free guidance; 1 for none.
    temperature: temperature of sampling; 0 for the likeliest tokens.
    top_k: number of likeliest tokens to sample from; 0 for all.
    top_p: least probability that the tokens to sample from have together.
  """

  maker: ClassVar[Any] = staticmethod(predict_tokens.make_write_tokens)
  evaluation_only: ClassVar[tuple[str, ...]] = (
    'guidance',
    'temperature',
    'top_k',
    'top_p',
  )

  guidance: denoise.Guidance = 3.0
  temperature: Annotated[float, FieldInfo(minimum=0)] = 1.0
  top_k: Annotated[int, FieldInfo(minimum=0)] = 0
  top_p: Annotated[float, FieldInfo(above=0)] = 1.0

  def sampler_settings(self) -> dict[str, Any]:
    """Arguments of `maker`, but for the shape."""
    return {
      'objective': self.objective({}),
      'guidance': float(self.guidance),
      'temperature': float(self.temperature),
      'top_k': self.top_k,
      'top_p': float(self.top_p),
    }
