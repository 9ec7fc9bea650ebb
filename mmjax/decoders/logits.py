"""From a text decoder's features to logits over its vocabulary."""

import flax.linen as nn
import jax.numpy as jnp

from mmjax import nn as mnn
from mmjax.decoders import cache as cache_lib
from mmjax.parallel import vocabulary
from mmjax.types import Array, FactoredLogits


class LogitHead(nn.Module):
  """The output layers of `TextDecoder`, whose fields and features it reads."""

  def setup_logits(self) -> None:
    """Makes the layers behind the last block, but for `head_norm`."""
    if self.head_activation is not None:
      self.head_dense = mnn.make_head(
        self.width, ('embed', None), True, self.dtype
      )
    if self.head_bias:
      self.logit_bias = self.param(
        'logit_bias',
        nn.with_logical_partitioning(nn.initializers.zeros, ('vocab',)),
        (self.vocab_size,),
        jnp.float32,
      )
    if not self.tied:
      self.head = mnn.OutputMatrix(self.width, self.vocab_size)

  def compute_logits(
    self, x: Array, *, train: bool = False
  ) -> Array | FactoredLogits:
    """Computes logits [B, T, V] float32 of features [B, T, D].

    In training they are not materialised, but for what is collected.
    """
    factors = self.factor_logits(x)
    if train and not self.is_mutable_collection('intermediates'):
      return factors
    logits = vocabulary.multiply(factors)
    self.sow('intermediates', 'logits', logits)
    return factors if train else logits

  def factor_logits(self, x: Array) -> FactoredLogits:
    """Logits of features [B, T, D], not materialised."""
    if self.head_activation is not None:
      x = mnn.activation(self.head_activation)(self.head_dense(x))
      x = self.head_norm(x)
    if self.head_scale != 1:
      x = x * jnp.asarray(self.head_scale, x.dtype)
    bias = self.logit_bias if self.head_bias else None
    if self.tied:
      factors = self.words.factor_logits(x, bias)
      return factors.replace(softcap=self.logit_softcap)
    x, kernel = nn.dtypes.promote_dtype(x, self.head(), dtype=self.dtype)
    return FactoredLogits(x, kernel, bias, self.logit_softcap)

  def decode_step(
    self,
    tokens: Array,
    cache: cache_lib.DecoderCache,
    mask: Array | None = None,
  ) -> tuple[Array, cache_lib.DecoderCache]:
    """Decodes tokens after a prompt, usually one.

    Args:
      tokens: [B, T] int32.
      cache: returned by `compute_hidden_states_cached` or the step before.
      mask: [B, T], True where there is a token; None means everywhere.

    Returns:
      Logits [B, T, V] float32 and the cache after these tokens. Too few slots
      give NaN or an error, as in `compute_hidden_states_cached`.
    """
    x, cache = self.compute_hidden_states_cached(tokens, cache, mask)
    return self.compute_logits(x), cache
