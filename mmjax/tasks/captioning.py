"""The task of describing images."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mmjax import evaluators, objectives
from mmjax.data.features import Feature
from mmjax.models import predict
from mmjax.tasks import base


def caption(
  run: base.TrainedModel, image: Any, *, beam_size: int = 1
) -> list[str]:
  """A caption of each image; greedy, or the best of a beam."""
  ids = run.predict(
    predict.make_generate,
    run.prepare(image=image),
    text_kind='caption',
    max_new_tokens=run.preprocessor['text'].max_new_tokens,
    beam_size=beam_size,
  )
  return run.decode(ids)


def _lines(
  run: base.TrainedModel,
  inputs: Mapping[str, Any],
  texts: Sequence[str],
  beam_size: int,
) -> list[str]:
  del texts
  return caption(run, base.get_image(inputs), beam_size=beam_size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Captioning(base.Task):
  """The model writes a text about an image.

  It returns `caption_logits` and has `generate` with `text_kind='caption'`.

  Attributes:
    label_smoothing: fraction of the target spread over all tokens.
  """

  ability: ClassVar[str] = 'caption an image'
  report_rows: ClassVar[tuple[base.ReportRow, ...]] = (
    base.ReportRow('exact captions', 'captions/exact', 'captions/chance_exact'),
    base.ReportRow(
      'objects named right', 'captions/objects', 'captions/chance_objects'
    ),
  )
  methods: ClassVar[Mapping[str, Any]] = {'caption': caption}
  predict_use: ClassVar[base.PredictUse | None] = base.PredictUse('', _lines)

  label_smoothing: float = 0.0

  def objective(
    self, features: Mapping[str, Feature]
  ) -> objectives.CaptionGeneration:
    del features
    return objectives.CaptionGeneration(self.label_smoothing)

  def batch_keys(self) -> tuple[str, ...]:
    return ('image', 'text')

  def evaluators(
    self, context: base.EvalContext
  ) -> dict[str, evaluators.Evaluator]:
    name = f'{context.prefix}captions'
    config = context.config
    captions = evaluators.Captions(
      predict.make_generate(
        context.model,
        text_kind='caption',
        # The token that starts a text is not generated.
        max_new_tokens=context.preprocessor['text'].max_new_tokens,
        beam_size=config.eval.beam_size,
      ),
      context.source,
      context.preprocessor,
      parse=evaluators.PARSERS.get(config.data.name.split('/')[0]),
      name=name,
      **context.settings(),
    )
    return {name: captions}
