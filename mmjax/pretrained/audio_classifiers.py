"""Published models that encode sounds, and some of them classify."""

import functools
import json
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from mmjax.pretrained import base, configs, preprocess_audio
from mmjax.types import Array, Tokens


class AudioClassifier(base.Pretrained):
  """AST and its kin.

  A sound is the path of a .wav file, or floats [N] in -1..1 at the rate of
  `preprocess.sample_rate`.
  """

  @functools.cached_property
  def preprocess(self) -> preprocess_audio.FbankPreprocessor:
    """Sounds to spectrograms."""
    return preprocess_audio.FbankPreprocessor.from_config(
      json.loads(self.file(base.PREPROCESSOR))
    )

  @functools.cached_property
  def labels(self) -> Sequence[str]:
    """Names of the C classes, in order; none without a classifier."""
    return configs.labels(self.config)[: self.module.num_classes]

  def encode_audio(self, sounds: Any) -> Tokens:
    """Tokens of one or several sounds: values [B, N, D], pooled [B, D]."""
    spectrogram = self.preprocess(base.listed(sounds))
    return self.compiled('encode')(self.params, spectrogram)

  def class_logits(self, sounds: Any) -> Array:
    """Logits [B, C] of one or several sounds.

    Raises:
      ValueError: if the model has no classifier.
    """
    if not self.module.num_classes:
      raise ValueError(
        'the checkpoint has no classifier; open one whose architectures are '
        'ForAudioClassification, or use encode_audio'
      )
    spectrogram = self.preprocess(base.listed(sounds))
    return self.compiled('classify')(self.params, spectrogram)

  def classify(
    self, sounds: Any, top: int = 1
  ) -> list[list[tuple[str, float]]]:
    """The likeliest classes of each sound, with their probabilities.

    They are of one class among all, or of each class by itself where
    config.json has the `problem_type` 'multi_label_classification'.

    Args:
      sounds: see above.
      top: how many classes of each.

    Returns:
      For each sound (label, probability) pairs, the likeliest first.

    Raises:
      ValueError: if the model has no classifier.
    """
    logits = self.class_logits(sounds)
    several = self.config.get('problem_type') == 'multi_label_classification'
    chances = jax.nn.sigmoid(logits) if several else jax.nn.softmax(logits)
    best = np.argsort(-np.asarray(logits), axis=1, kind='stable')[:, :top]
    return [
      [(self.labels[i], float(row[i])) for i in places]
      for row, places in zip(np.asarray(chances), best, strict=True)
    ]
