"""An audio encoder with a classifier."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax.types import Array, Batch, Outputs, Tokens


class AudioClassifier(nn.Module):
  """Encodes sounds, and sorts them into classes.

  A normalisation and a linear layer on the encoder's summary (Gong et al. 2021,
  AST).

  Attributes:
    audio: an encoder of spectrograms.
    num_classes: C; 0 for no classifier.
    norm_epsilon: of the normalisation.
    dtype: of the classifier.
  """

  audio: nn.Module
  num_classes: int = 0
  norm_epsilon: float = 1e-6
  dtype: Any = jnp.float32

  def setup(self):
    if self.num_classes:
      self.classifier_norm = mnn.make_norm(
        'layernorm', self.norm_epsilon, self.dtype
      )
      self.classifier = nn.Dense(
        self.num_classes,
        kernel_init=nn.with_logical_partitioning(
          nn.initializers.normal(0.02), ('embed', None)
        ),
        bias_init=nn.with_logical_partitioning(nn.initializers.zeros, (None,)),
        dtype=self.dtype,
      )

  def __call__(self, batch: Batch, *, train: bool) -> Outputs:
    """Encodes and, with a classifier, classifies a batch's `spectrogram`.

    Args:
      batch: see `mmjax.types`.
      train: whether dropout is on.

    Returns:
      `audio_tokens` Tokens, and `class_logits` [B, C] float32.
    """
    tokens = self.audio(
      batch['spectrogram'], batch.get('spectrogram_mask'), train=train
    )
    out = {'audio_tokens': tokens}
    if self.num_classes:
      out['class_logits'] = self._classify(tokens)
    return out

  def encode_audio(
    self, spectrogram: Array, mask: Array | None = None, *, train: bool = False
  ) -> Tokens:
    """Encodes spectrograms [B, F, M]."""
    return self.audio(spectrogram, mask, train=train)

  def classify(self, spectrogram: Array) -> Array:
    """Logits [B, C] float32 of spectrograms [B, F, M]."""
    return self._classify(self.encode_audio(spectrogram))

  def _classify(self, tokens: Tokens) -> Array:
    x = self.classifier_norm(tokens.pooled)
    return self.classifier(x).astype(jnp.float32)
