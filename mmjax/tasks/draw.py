"""The task of drawing images of texts."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from mmjax import evaluators
from mmjax.data import contact_sheet
from mmjax.data.features import Feature, Image, Text
from mmjax.evaluators import drawings, masked
from mmjax.models import predict
from mmjax.tasks import base, denoise


def draw(
  run: base.TrainedModel,
  texts: str | Sequence[str],
  *,
  seed: int = 0,
  guidance: float | None = None,
  steps: int | None = None,
) -> np.ndarray:
  """Draws an image of each text.

  Args:
    run: the trained model.
    texts: one text or several.
    seed: seed of the noise; text i gets that of `seed + i`, so that images of
      one text differ.
    guidance: factor of classifier-free guidance; None for the task's.
    steps: number of steps; None for the task's.

  Returns:
    uint8 [N, H, W, 3].

  Raises:
    ConfigError: if a text is longer than the model reads, guidance is below 0,
      or above 0 and not 1 where the model never drew without a text.
  """
  task = base.find_task(run, Draw)
  images = denoise.make_of_texts(
    run, task, texts, seed, guidance=guidance, steps=steps
  )
  return masked.to_pixels(run.preprocessor[task.feature], images)


def draw_cells(
  run: base.TrainedModel,
  inputs: Mapping[str, Any],
  texts: Sequence[str],
  *,
  seed: int = 0,
  guidance: float | None = None,
  copies: int = 1,
) -> list[contact_sheet.Cell]:
  """Cards of drawn images, `copies` of each text."""
  del inputs
  repeated = [text for text in texts for _ in range(copies)]
  images = draw(run, repeated, seed=seed, guidance=guidance)
  return [(image, [text]) for image, text in zip(images, repeated, strict=True)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Draw(denoise.Denoise):
  """The model draws images of texts, by diffusion or flow matching.

  Its `denoise` predicts what is between an image and noise; a sampler then
  goes from noise to an image. On `shapes`, drawn images are read again and
  compared with what their text asks for. `maker` makes the predict function.

  Attributes:
    judge: folder of a run that embeds images, or of a published dual encoder,
      or its name on the Hugging Face hub: drawings and true images are compared
      in its space. '' for none.
    judge_feature: feature that makes images as the judge reads them; '' for
      `feature`.
    judge_text: text feature with what the judge reads about an image, such as
      its name without the drawing style; '' for the text it is drawn of.
  """

  ability: ClassVar[str] = 'draw images of texts'
  report_rows: ClassVar[tuple[base.ReportRow, ...]] = (
    base.ReportRow(
      'drawings with all that was asked',
      'drawings/right',
      'drawings/unconditional',
    ),
  )
  methods: ClassVar[Mapping[str, Any]] = {'draw': draw}
  maker: ClassVar[Any] = staticmethod(predict.make_draw)
  predict_use: ClassVar[base.PredictUse | None] = base.PredictUse(
    'text',
    denoise.write_no_lines,
    needs_inputs=False,
    draw=draw_cells,
    needs_output_file=True,
  )

  evaluation_only: ClassVar[tuple[str, ...]] = (
    *denoise.Denoise.evaluation_only,
    'judge',
    'judge_feature',
    'judge_text',
  )

  judge: str = ''
  judge_feature: str = ''
  judge_text: str = ''

  def batch_keys(self) -> tuple[str, ...]:
    own = super().batch_keys()
    return (*own, *filter(None, (self.judge_feature, self.judge_text)))

  def required_keys(self) -> Sequence[Sequence[str]]:
    return (super().batch_keys(),)  # The judge's features are for evaluation.

  def find_judge(
    self, features: Mapping[str, Feature]
  ) -> base.TeacherSpec | None:
    if not self.judge:
      return None
    feature = self.judge_feature or self.feature
    base.get_target(feature, features, (Image,))
    if self.judge_text:
      base.get_target(self.judge_text, features, (Text,))
    return base.TeacherSpec(
      self.judge,
      'embed',
      'image',
      'features',
      0,
      {'image': feature},
      setting='judge',
    )

  def sampling(self, features: Mapping[str, Feature]) -> dict[str, Any]:
    """Arguments of `maker`."""
    shape = tuple(features[self.feature].shape)
    return {**self.sampler_settings(), 'shape': shape}

  def evaluators(
    self, context: base.EvalContext
  ) -> dict[str, evaluators.Evaluator]:
    name = f'{context.prefix}drawings'
    settings = self.sampling(context.preprocessor.features)
    make = lambda **more: self.maker(context.model, **(settings | more))
    has_both = self.drop_condition > 0
    return {
      name: evaluators.Drawings(
        make(),
        make(guidance=0.0) if has_both else None,
        context.source,
        context.preprocessor,
        feature=self.feature,
        condition=self.condition,
        holds=drawings.CHECKS.get(context.config.data.name.split('/')[0]),
        judge=context.judges.get(
          (self.judge, self.judge_feature or self.feature)
        ),
        judge_feature=self.judge_feature,
        judge_text=self.judge_text,
        name=name,
        **context.settings(),
      )
    }
