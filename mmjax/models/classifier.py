"""An encoder with a linear classifier."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax.types import Array, Batch, Outputs, Positive, TokenVectors


class Classifier(nn.Module):
  """Encodes what a modality holds, and sorts it into classes.

  A linear layer on the encoder's summary (Dosovitskiy et al. 2021), or on it
  beside the mean of the patches' tokens (Oquab et al. 2023, DINOv2, appendix
  B.3), or on the normalised summary (Gong et al. 2021, AST).

  Attributes:
    encoder: encoder of any modality.
    num_classes: C; 0 for no classifier.
    modality: the batch's key of the encoder's inputs.
    patches_from: index of the first token whose mean the classifier gets too;
      None for the summary alone.
    norm_epsilon: added to the variance by a norm before the linear layer; None
      for no norm.
    dtype: dtype of the classifier.
  """

  encoder: nn.Module
  num_classes: int = 0
  modality: str = 'image'
  patches_from: int | None = None
  norm_epsilon: Positive | None = None
  dtype: Any = jnp.float32

  def setup(self):
    if self.num_classes:
      if self.norm_epsilon is not None:
        self.classifier_norm = mnn.make_norm(
          'layernorm', self.norm_epsilon, self.dtype
        )
      self.classifier = mnn.Dense(
        self.num_classes,
        kernel_init=nn.with_logical_partitioning(
          nn.initializers.normal(0.02), ('embed', None)
        ),
        bias_init=nn.with_logical_partitioning(nn.initializers.zeros, (None,)),
        dtype=self.dtype,
      )

  def __call__(self, batch: Batch, *, train: bool) -> Outputs:
    """Encodes and, with a classifier, classifies a batch.

    Args:
      batch: arrays by the keys of `mmjax.types`.
      train: whether dropout is on.

    Returns:
      `tokens` TokenVectors, and `class_logits` [B, C] float32.
    """
    mask = batch.get(f'{self.modality}_mask')
    tokens = self.encoder(batch[self.modality], mask, train=train)
    out = {'tokens': tokens}
    if self.num_classes:
      out['class_logits'] = self._classify(tokens)
    return out

  def encode(
    self, inputs: Array, mask: Array | None = None, *, train: bool = False
  ) -> TokenVectors:
    """Encodes B examples of the modality."""
    return self.encoder(inputs, mask, train=train)

  def classify(self, inputs: Array) -> Array:
    """Logits [B, C] float32 of B examples of the modality."""
    return self._classify(self.encode(inputs))

  def _classify(self, tokens: TokenVectors) -> Array:
    x = tokens.pooled  # [B, D]
    if self.patches_from is not None:
      start = self.patches_from
      mean = mnn.pool('mean', tokens.values[:, start:], tokens.mask[:, start:])
      x = jnp.concatenate([x, mean], axis=-1)  # [B, 2 * D]
    if self.norm_epsilon is not None:
      x = self.classifier_norm(x)
    return self.classifier(x).astype(jnp.float32)
