"""The task of encoding sounds to tokens, and decoding them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from mmjax import evaluators, objectives
from mmjax.data.features import Feature, Sound
from mmjax.errors import ConfigError, check_choice
from mmjax.metrics import sound_quality
from mmjax.models import predict_tokens as predict
from mmjax.objectives import autoencoding
from mmjax.tasks import base
from mmjax.types import Positive


def reconstruct(run: base.TrainedModel, sounds: Any) -> np.ndarray:
  """Encodes and decodes sounds.

  Args:
    run: the trained model.
    sounds: one sound or several: paths, or floats [N] in -1..1 at the rate of
      the feature; what is longer than it is cut, and what is shorter is
      followed by silence.

  Returns:
    float32 [N, S] in -1..1.
  """
  batch = _prepare(run, sounds)
  out = run.predict(predict.make_reconstruct, batch)
  return np.clip(np.asarray(out), -1, 1)


def encode_tokens(run: base.TrainedModel, sounds: Any) -> np.ndarray:
  """Token ids, int32 [N, K, T], of sounds, as `reconstruct` reads them."""
  feature = base.find_task(run, ReconstructSound).feature
  out = run.predict(
    predict.make_method,
    _prepare(run, sounds),
    method='encode_tokens',
    feature=feature,
  )
  return np.asarray(out)


def decode_tokens(run: base.TrainedModel, ids: Any) -> np.ndarray:
  """Samples, float32 [N, T * hop] in -1..1, of token ids.

  Args:
    run: the trained model.
    ids: whole numbers [N, K, T], K of 'rvq' or fewer, and 1 of the others.

  Raises:
    ConfigError: for an id that is not one of the codebook's, or an array of
      another shape.
  """
  out = run.predict(
    predict.make_method,
    {'codes': run.module.check_tokens(ids)},
    method='decode_tokens',
    feature='codes',
  )
  return np.clip(np.asarray(out), -1, 1)


def _prepare(run: base.TrainedModel, sounds: Any) -> Mapping[str, Any]:
  feature = base.find_task(run, ReconstructSound).feature
  is_one = isinstance(sounds, str) or not isinstance(sounds, Sequence)
  is_one &= np.ndim(sounds) < 2
  return run.prepare(**{feature: [sounds] if is_one else list(sounds)})


def _both(
  run: base.TrainedModel, inputs: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
  """A sound as the model reads it [S], and its reconstruction [S]."""
  name = base.find_task(run, ReconstructSound).feature
  if name not in inputs:
    raise ConfigError(f'the task needs {name!r}; add --{name}=FILE')
  batch = run.prepare(**{name: [inputs[name]]})
  (found,) = reconstruct(run, [inputs[name]])
  return np.asarray(batch[name])[0], found


def _lines(
  run: base.TrainedModel,
  inputs: Mapping[str, Any],
  texts: Sequence[str],
  beam_size: int,
) -> list[str]:
  """How close the reconstruction is."""
  del texts, beam_size
  true, found = _both(run, inputs)
  (ratio,) = sound_quality.signal_to_noise(true[None], found[None])
  return [f'reconstruction: {ratio:.1f} dB signal-to-noise ratio']


def _play(
  run: base.TrainedModel, inputs: Mapping[str, Any], texts: Sequence[str]
) -> tuple[np.ndarray, int]:
  """The reconstruction of a sound, and its rate."""
  del texts
  name = base.find_task(run, ReconstructSound).feature
  return _both(run, inputs)[1], run.preprocessor[name].rate


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReconstructSound(base.Task):
  """The model encodes sounds to tokens, and decodes them.

  It needs no labels: the model 'sound_autoencoder' with a codebook 'vq', 'fsq'
  or 'lfq' has one token a time step, with 'rvq' several.

  Attributes:
    feature: feature of the kind sound.
    distance: distance of samples, 'absolute' or 'squared'.
    spectral: weight of the distance of spectra.
  """

  ability: ClassVar[str] = 'encode sounds and decode them'
  report_rows: ClassVar[tuple[base.ReportRow, ...]] = (
    base.ReportRow('reconstructions SNR (dB)', 'reconstruct_sound/snr'),
    base.ReportRow(
      'distance of their spectra',
      'reconstruct_sound/spectral',
      'reconstruct_sound/silent_spectral',
    ),
    base.ReportRow("the codes' perplexity", 'reconstruct_sound/perplexity'),
  )
  methods: ClassVar[Mapping[str, Any]] = {
    'reconstruct': reconstruct,
    'encode_tokens': encode_tokens,
    'decode_tokens': decode_tokens,
  }
  predict_use: ClassVar[base.PredictUse | None] = base.PredictUse(
    '', _lines, play=_play
  )

  feature: str = 'sound'
  distance: str = 'absolute'
  spectral: Positive = 1.0

  def objective(
    self, features: Mapping[str, Feature]
  ) -> objectives.SoundAutoencoding:
    if self.feature in features:
      base.get_target(self.feature, features, (Sound,))
    return objectives.SoundAutoencoding(
      self.feature, self.distance, spectral=float(self.spectral)
    )

  def check(self) -> None:
    check_choice(
      self.distance, autoencoding.DISTANCES, 'tasks.reconstruct_sound.distance'
    )

  def batch_keys(self) -> tuple[str, ...]:
    return (self.feature,)

  def evaluators(
    self, context: base.EvalContext
  ) -> dict[str, evaluators.Evaluator]:
    name = f'{context.prefix}reconstruct_sound'
    encode = predict.make_method(
      context.model, method='encode_tokens', feature=self.feature
    )
    return {
      name: evaluators.SoundReconstructions(
        predict.make_reconstruct(context.model),
        encode,
        context.source,
        context.preprocessor,
        feature=self.feature,
        size=context.model.codebook.size,
        name=name,
        **context.settings(),
      )
    }
