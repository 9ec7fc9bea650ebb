"""The task of drawing images of texts."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np

from mmjax import evaluators, objectives, ops
from mmjax.data import contact_sheet
from mmjax.data.features import Feature
from mmjax.errors import ConfigError, check_choice
from mmjax.evaluators import drawings, masked
from mmjax.models import predict
from mmjax.ops import denoising
from mmjax.tasks import base
from mmjax.types import Positive, Setting, Size

Guidance = Annotated[float, Setting(minimum=0)]
Fraction = Annotated[float, Setting(minimum=0, below=1)]


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
    seed: of the noise; text i gets that of `seed + i`, so that images of one
      text differ.
    guidance: factor of classifier-free guidance; None for the task's.
    steps: number of steps; None for the task's.

  Returns:
    uint8 [N, H, W, 3].

  Raises:
    ConfigError: if a text is longer than the model reads, guidance is below 0,
      or above 0 and not 1 where the model never drew without a text.
  """
  task = base.find_task(run, Draw)
  texts = [texts] if isinstance(texts, str) else list(texts)
  feature = run.preprocessor[task.condition]
  for text in texts:
    number = run.tokenizer.count(text, as_input=feature.as_input)
    if number > feature.length:
      raise ConfigError(
        f'{text!r} has {number} tokens, but the model reads {feature.length}; '
        'shorten it'
      )
  given = {'guidance': guidance, 'steps': steps}
  chosen = dataclasses.replace(
    task, **{name: value for name, value in given.items() if value is not None}
  )
  chosen.check()
  batch = dict(run.prepare(**{task.condition: texts}))
  batch['seed'] = np.arange(seed, seed + len(texts)).astype(np.int32)
  field = run.preprocessor[task.field]
  images = run.apply(
    predict.make_draw, batch, **chosen.sampling(run.preprocessor.features)
  )
  return masked.to_pixels(field, np.asarray(images))


def _lines(
  run: base.TrainedModel,
  inputs: Mapping[str, Any],
  texts: Sequence[str],
  beam_size: int,
) -> list[str]:
  """None: images go to --output."""
  del run, inputs, texts, beam_size
  return []


def _draw(
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
class Draw(base.Task):
  """The model draws images of texts, by diffusion or flow matching.

  Its `denoise` predicts what is between an image and noise; a sampler then
  goes from noise to an image. On `shapes`, drawn images are read again and
  compared with what their text asks for.

  Attributes:
    field: feature of the kind image that is drawn.
    condition: text feature that says what to draw.
    schedule: noise schedule, 'flow', 'linear', 'scaled_linear' or 'cosine', as
      of `mmjax.ops.Noise`.
    prediction: what the model predicts: 'velocity' (with 'flow'), 'epsilon',
      'x' or 'v'.
    shift: of the times of the schedule 'flow', for large images.
    times: in training 'uniform' or 'logit_normal'.
    min_snr: gamma of min-SNR weighting; None for none.
    drop_condition: fraction of examples that are trained without their text.
    sampler: 'ddpm', 'ddim', 'euler', 'heun' or 'dpm++'.
    spacing: of a sampler's times: 'trailing', 'leading' or 'linspace'.
    steps: number of a sampler's steps.
    guidance: factor of classifier-free guidance; 1 for none.
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
  predict_flag: ClassVar[base.PredictFlag | None] = base.PredictFlag(
    'text', _lines, needs_inputs=False, draw=_draw, needs_output=True
  )

  field: str = 'image'
  condition: str = 'text'
  schedule: str = 'flow'
  prediction: str = 'velocity'
  shift: Positive = 1.0
  times: str = 'uniform'
  min_snr: Positive | None = None
  drop_condition: Fraction = 0.1
  sampler: str = 'dpm++'
  spacing: str = 'trailing'
  steps: Size = 20
  guidance: Guidance = 2.0

  def objective(self, features: Mapping[str, Feature]) -> objectives.Denoising:
    del features
    return objectives.Denoising(
      field=self.field,
      condition=self.condition,
      noise=ops.Noise(self.schedule, self.prediction, self.shift),
      times=self.times,
      min_snr=self.min_snr,
      drop_condition=self.drop_condition,
    )

  def check(self) -> None:
    noise = self.objective({}).noise
    check_choice(self.sampler, denoising.SAMPLERS, 'tasks.draw.sampler')
    ops.make_step_table(noise, self.steps, self.spacing)
    if self.guidance < 0:
      raise ConfigError(f'guidance={self.guidance} is not legal; use 0 or more')
    if self.guidance != 1 and not self.drop_condition:
      raise ConfigError(
        f'guidance={self.guidance} needs a model that also draws without a '
        'text; train with tasks.draw.drop_condition above 0, or use guidance=1'
      )

  def needs(self) -> tuple[str, ...]:
    return (self.field, self.condition)

  def sampling(self, features: Mapping[str, Feature]) -> dict[str, Any]:
    """Arguments of `predict.make_draw`."""
    return {
      'objective': self.objective(features),
      'shape': tuple(features[self.field].shape),
      'steps': self.steps,
      'sampler': self.sampler,
      'spacing': self.spacing,
      'guidance': float(self.guidance),
    }

  def evaluators(self, split: base.Split) -> dict[str, evaluators.Evaluator]:
    name = f'{split.prefix}drawings'
    settings = self.sampling(split.preprocessor.features)
    make = lambda **more: predict.make_draw(split.model, **(settings | more))
    has_both = self.drop_condition > 0
    return {
      name: evaluators.Drawings(
        make(),
        make(guidance=0.0) if has_both else None,
        split.source,
        split.preprocessor,
        field=self.field,
        condition=self.condition,
        holds=drawings.CHECKS.get(split.config.data.name.split('/')[0]),
        name=name,
        **split.settings(),
      )
    }
