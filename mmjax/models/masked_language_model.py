"""A text encoder that fills gaps."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax.nn import mlp
from mmjax.parallel import vocabulary
from mmjax.types import Array, FactoredLogits, Positive


class MaskedLanguageModel(nn.Module):
  """Predicts the token at each position of a text (Devlin et al. 2019, 3.1).

  A dense layer, an activation and a norm lead from the encoder to the
  transpose of its word embedding, as in BERT's published code.

  Attributes:
    text: a `Transformer`.
    activation: a key of `mmjax.nn.mlp.ACTIVATIONS`.
    norm_epsilon: added to the variance.
    dtype: dtype of the computation; logits are float32.
  """

  text: nn.Module
  activation: str = 'gelu'
  norm_epsilon: Positive = 1e-12
  dtype: Any = jnp.float32

  def setup(self):
    self.transform = mnn.Dense(
      self.text.width,
      kernel_init=nn.with_logical_partitioning(
        nn.initializers.xavier_uniform(), ('embed', None)
      ),
      dtype=self.dtype,
    )
    self.transform_norm = mnn.make_norm(
      'layernorm', self.norm_epsilon, self.dtype
    )
    self.bias = self.param(
      'bias',
      nn.with_logical_partitioning(nn.initializers.zeros, ('vocab',)),
      (self.text.vocab_size,),
      jnp.float32,
    )

  def __call__(
    self,
    tokens: Array,
    mask: Array | None = None,
    segments: Array | None = None,
    *,
    train: bool,
  ) -> Array | FactoredLogits:
    """Logits [B, T, V] float32 of the tokens, in training not materialised.

    Arguments are those of `Transformer`.
    """
    x = self.text(tokens, mask, segments=segments, train=train).values
    x = mlp.activation(self.activation)(self.transform(x))
    x = self.transform_norm(x)
    logits = self.text.words.factor_logits(x, self.bias)
    return logits if train else vocabulary.multiply(logits)

  def encode_text(
    self,
    tokens: Array,
    mask: Array | None = None,
    segments: Array | None = None,
  ):
    """The encoder's `TokenVectors`."""
    return self.text(tokens, mask, segments=segments, train=False)
