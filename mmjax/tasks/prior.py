"""The task of imagining the embedding of an image of a text."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mmjax import evaluators, objectives
from mmjax.data.features import Feature
from mmjax.models import predict, predict_unclip
from mmjax.tasks import base, denoise
from mmjax.types import Array, Size


def imagine(
  run: base.TrainedModel,
  texts: str | Sequence[str],
  *,
  seed: int = 0,
  guidance: float | None = None,
) -> Array:
  """Embeddings of images of texts, unit vectors [N, E].

  Args:
    run: the trained model.
    texts: one text or several.
    seed: seed of the noise; text i gets that of `seed + i`.
    guidance: factor of classifier-free guidance; None for the task's.

  Raises:
    ConfigError: if a text is longer than the model reads, or guidance is not
      legal.
  """
  task = denoise.choose(base.find_task(run, Prior), guidance=guidance)
  texts = [texts] if isinstance(texts, str) else list(texts)
  batch = denoise.make_texts_batch(run, task, texts, seed)
  return run.predict(predict_unclip.make_prior, batch, **task.sampling())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prior(denoise.Denoise):
  """The prior of DALL-E 2 learns embeddings of images, given their texts.

  Its noisy input is the image's embedding by the model's towers, and it
  predicts it without the noise (Ramesh et al. 2022, section 2.2).

  Attributes:
    candidates: number of embeddings that are drawn of a text; the one nearest
      to the text's embedding is used.
  """

  ability: ClassVar[str] = 'imagine embeddings of images of texts'
  report_rows: ClassVar[tuple[base.ReportRow, ...]] = (
    base.ReportRow(
      'cosine of imagined embeddings', 'prior/cosine', 'prior/text_cosine'
    ),
  )
  methods: ClassVar[Mapping[str, Any]] = {'imagine': imagine}

  schedule: str = 'cosine'
  prediction: str = 'x'
  candidates: Size = 2

  def objective(self, features: Mapping[str, Feature]) -> objectives.Denoising:
    return dataclasses.replace(
      super().objective(features),
      output_key='image_embedding',
      method='denoise_embedding',
    )

  def sampling(self) -> dict[str, Any]:
    """Arguments of `predict_unclip.make_prior`."""
    return {
      'prior': predict_unclip.Sampling(**self.sampler_settings()),
      'candidates': self.candidates,
    }

  def evaluators(
    self, context: base.EvalContext
  ) -> dict[str, evaluators.Evaluator]:
    name = f'{context.prefix}prior'
    embed = lambda feature: predict.make_embed(context.model, name=feature)
    return {
      name: evaluators.Imagined(
        predict_unclip.make_prior(context.model, **self.sampling()),
        embed(self.feature),
        embed(self.condition),
        context.source,
        context.preprocessor,
        feature=self.feature,
        condition=self.condition,
        name=name,
        **context.settings(),
      )
    }
