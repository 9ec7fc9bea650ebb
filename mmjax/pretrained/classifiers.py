"""Published models that encode one modality, and some of them classify."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.errors import ConfigError
from mmjax.pretrained import base, configs, preprocess_audio, processors
from mmjax.types import Array, Tokens


class PublishedClassifier(base.Pretrained):
  """What encoders of images, videos and sounds have in common."""

  @functools.cached_property
  def labels(self) -> Sequence[str]:
    """Names of the C classes, in order; none without a classifier."""
    return configs.labels(self.config)[: self.module.num_classes]

  def arrays(self, inputs: Any) -> Array:
    """What the module reads, of examples as users give them."""
    return self.pixels(inputs)

  def class_logits(self, inputs: Any) -> Array:
    """Logits [B, C] of examples.

    Raises:
      ConfigError: if the model has no classifier.
    """
    if not self.module.num_classes:
      raise ConfigError(
        'the checkpoint has no classifier; open one whose architectures end in '
        'Classification, or encode only'
      )
    return self.compiled('classify')(self.params, self.arrays(inputs))

  def classify(
    self, inputs: Any, top: int = 1
  ) -> list[list[tuple[str, float]]]:
    """The likeliest classes of each example, with their probabilities.

    They are of one class among all, or of each class by itself where
    config.json has the `problem_type` 'multi_label_classification'.

    Args:
      inputs: one example or several.
      top: how many classes of each.

    Returns:
      For each example (label, probability) pairs, the likeliest first.

    Raises:
      ConfigError: if the model has no classifier.
    """
    several = self.config.get('problem_type') == 'multi_label_classification'
    share = jax.nn.sigmoid if several else jax.nn.softmax
    chances = np.asarray(share(self.class_logits(inputs)))
    best = np.argsort(-chances, axis=1, kind='stable')[:, :top]
    return [
      [(self.labels[i], float(row[i])) for i in places]
      for row, places in zip(chances, best, strict=True)
    ]


class PublishedImageEncoder(PublishedClassifier):
  """ViT and its kin."""

  def encode_image(self, pictures: Any) -> Tokens:
    """Tokens of pictures, see `pixels`: values [B, N, D], pooled [B, D]."""
    return self.compiled('encode')(self.params, self.pixels(pictures))


class PublishedVideoEncoder(PublishedClassifier):
  """VideoMAE and its kin."""

  def encode_video(self, videos: Any) -> Tokens:
    """Tokens of videos, see `pixels`: values [B, N, D], pooled [B, D]."""
    return self.compiled('encode')(self.params, self.pixels(videos))

  def pixels(self, videos: Any) -> Array:
    """Arrays [B, F, H, W, 3] of videos, as the model reads them.

    Args:
      videos: a list of videos, each a list of F pictures or uint8
        [F, H, W, 3]; F is the model's `num_frames`.

    Raises:
      ConfigError: if a video has another number of frames.
    """
    wanted = self.module.encoder.num_frames
    for video in videos:
      if len(video) != wanted:
        raise ConfigError(
          f'a video has {len(video)} frames, but the model reads {wanted}; '
          'pick as many of them'
        )
    return jnp.stack(
      [super(PublishedVideoEncoder, self).pixels([*v]) for v in videos]
    )


class PublishedAudioEncoder(PublishedClassifier):
  """AST and its kin.

  A sound is the path of a .wav file, or floats [N] in -1..1 at the rate of
  `preprocess.sample_rate`.
  """

  @functools.cached_property
  def preprocess(self) -> preprocess_audio.FbankPreprocessor:
    """Sounds to spectrograms."""
    return preprocess_audio.FbankPreprocessor.from_config(
      *self.preparing(processors.SOUNDS)
    )

  def arrays(self, sounds: Any) -> Array:
    """Spectrograms [B, F, M] of one or several sounds."""
    return self.preprocess(base.listed(sounds))

  def encode_audio(self, sounds: Any) -> Tokens:
    """Tokens of one or several sounds: values [B, N, D], pooled [B, D]."""
    return self.compiled('encode')(self.params, self.arrays(sounds))
