"""Published encoders of one modality, with or without a classifier."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.errors import ConfigError
from mmjax.pretrained import base, configs, preprocess_audio, processors
from mmjax.types import Array, TokenVectors


class PublishedClassifier(base.Pretrained):
  """Base of the encoders of images, videos and sounds."""

  @functools.cached_property
  def labels(self) -> Sequence[str]:
    """Names of the C classes, in order; empty without a classifier."""
    return configs.labels(self.config)[: self.module.num_classes]

  def arrays(self, inputs: Any) -> Array:
    """Preprocesses examples to the input of the module."""
    return self.preprocess(inputs)

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
    return self.jit_method('classify')(self.params, self.arrays(inputs))

  def classify(
    self, inputs: Any, top: int = 1
  ) -> list[list[tuple[str, float]]]:
    """The likeliest classes of each example, with their probabilities.

    Probabilities add up to 1 over the classes, unless config.json has the
    `problem_type` 'multi_label_classification': then each class has its own.

    Args:
      inputs: one example or several.
      top: number of classes for each example.

    Returns:
      For each example (label, probability) pairs, the likeliest first.

    Raises:
      ConfigError: if the model has no classifier.
    """
    several = self.config.get('problem_type') == 'multi_label_classification'
    probability = jax.nn.sigmoid if several else jax.nn.softmax
    probabilities = np.asarray(probability(self.class_logits(inputs)))
    best = np.argsort(-probabilities, axis=1, kind='stable')[:, :top]
    return [
      [(self.labels[i], float(row[i])) for i in indices]
      for row, indices in zip(probabilities, best, strict=True)
    ]


class PublishedImageEncoder(PublishedClassifier):
  """ViT and similar models."""

  def encode_image(self, images: Any) -> TokenVectors:
    """Encodes images to `TokenVectors`: values [B, N, D], pooled [B, D]."""
    return self.jit_method('encode')(self.params, self.preprocess(images))


class PublishedVideoEncoder(PublishedClassifier):
  """VideoMAE and similar models."""

  def encode_video(self, videos: Any) -> TokenVectors:
    """Encodes videos to `TokenVectors`: values [B, N, D], pooled [B, D]."""
    return self.jit_method('encode')(self.params, self.preprocess(videos))

  def preprocess(self, videos: Any) -> Array:
    """Preprocesses videos to arrays [B, F, H, W, 3], the input of the module.

    Args:
      videos: a list of videos, each a list of F images or uint8
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
      [super(PublishedVideoEncoder, self).preprocess([*v]) for v in videos]
    )


class PublishedAudioEncoder(PublishedClassifier):
  """AST and similar models.

  A sound is the path of a .wav file, or floats [N] in -1..1 at the rate of
  `preprocessor.sample_rate`.
  """

  @functools.cached_property
  def preprocessor(self) -> preprocess_audio.FbankPreprocessor:
    """The preprocessor that turns sounds into spectrograms."""
    return preprocess_audio.FbankPreprocessor.from_config(
      *self.find_preprocessing(processors.SOUNDS)
    )

  def arrays(self, sounds: Any) -> Array:
    """Spectrograms [B, F, M] of one or several sounds."""
    return self.preprocessor(base.as_list(sounds))

  def encode_audio(self, sounds: Any) -> TokenVectors:
    """Encodes one or several sounds: values [B, N, D], pooled [B, D]."""
    return self.jit_method('encode')(self.params, self.arrays(sounds))
