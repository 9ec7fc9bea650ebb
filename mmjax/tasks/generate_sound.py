"""The task of making sounds of texts as tokens that are written in order."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from mmjax import evaluators, objectives
from mmjax.data.features import Feature, Sound
from mmjax.evaluators import spoken
from mmjax.tasks import base, denoise, written_tokens
from mmjax.types import Fraction


def speak(
  run: base.TrainedModel,
  texts: str | Sequence[str],
  *,
  seed: int = 0,
  guidance: float | None = None,
) -> np.ndarray:
  """Makes a sound of each text.

  Args:
    run: the trained model.
    texts: one text or several.
    seed: seed of sampling; text i gets that of `seed + i`, so that sounds of
      one text differ.
    guidance: factor of classifier-free guidance; None for the task's.

  Returns:
    float32 [N, S] in -1..1.

  Raises:
    ConfigError: if a text is longer than the model reads, guidance is below 0,
      or above 0 and not 1 where the model never spoke without a text.
  """
  task = base.find_task(run, GenerateSound)
  sounds = denoise.make_of_texts(run, task, texts, seed, guidance=guidance)
  return np.clip(sounds, -1, 1)


def _play(
  run: base.TrainedModel,
  inputs: Mapping[str, Any],
  texts: Sequence[str],
  *,
  seed: int = 0,
  guidance: float | None = None,
) -> tuple[np.ndarray, int]:
  """The sound of one text, and its rate."""
  del inputs
  (sound,) = speak(run, texts, seed=seed, guidance=guidance)
  feature = base.find_task(run, GenerateSound).feature
  return sound, run.preprocessor[feature].rate


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerateSound(written_tokens.WrittenTokens, base.Task):
  """The model writes sounds after texts, one token after another.

  As `GenerateImage` does images, with the tokens of a `sound_autoencoder`, and
  beside it in the same decoder. On `shapes_senses` the melodies are read again,
  and compared with what their text says.

  Attributes:
    feature: feature of the kind sound.
    drop_condition: fraction of examples that are trained with a void text.
  """

  ability: ClassVar[str] = 'make sounds of texts'
  report_rows: ClassVar[tuple[base.ReportRow, ...]] = (
    base.ReportRow(
      'sounds that are as their text says',
      'spoken/right',
      'spoken/unconditional',
    ),
    base.ReportRow('distance of their mean spectrum', 'spoken/spectrum_error'),
  )
  methods: ClassVar[Mapping[str, Any]] = {'speak': speak}
  predict_use: ClassVar[base.PredictUse | None] = base.PredictUse(
    'text',
    denoise.write_no_lines,
    needs_inputs=False,
    play=_play,
    needs_output_file=True,
  )
  # The text feature that says what to make, which the models read by this name.
  condition: ClassVar[str] = 'text'

  feature: str = 'sound'
  drop_condition: Fraction = 0.1

  def objective(
    self, features: Mapping[str, Feature]
  ) -> objectives.NextSoundTokens:
    if self.feature in features:
      base.get_target(self.feature, features, (Sound,))
    return objectives.NextSoundTokens(
      self.feature, self.condition, self.drop_condition
    )

  def check(self) -> None:
    denoise.check_guidance(self.guidance, self.drop_condition)

  def batch_keys(self) -> tuple[str, ...]:
    return (self.feature, self.condition)

  def sampling(self, features: Mapping[str, Feature]) -> dict[str, Any]:
    """Arguments of `maker`."""
    shape = (features[self.feature].length,)
    return {**self.sampler_settings(), 'shape': shape}

  def evaluators(
    self, context: base.EvalContext
  ) -> dict[str, evaluators.Evaluator]:
    name = f'{context.prefix}spoken'
    settings = self.sampling(context.preprocessor.features)
    check = spoken.CHECKS.get(context.config.data.name.split('/')[0])
    rate = context.preprocessor[self.feature].rate
    make = lambda **more: self.maker(context.model, **(settings | more))
    return {
      name: evaluators.Spoken(
        make(),
        make(guidance=0.0) if self.drop_condition else None,
        context.source,
        context.preprocessor,
        feature=self.feature,
        condition=self.condition,
        holds=check and functools.partial(check, rate=rate),
        name=name,
        **context.settings(),
      )
    }
