"""Decision-level fusions: from each modality's own outputs to one.

A model has an output layer for each modality, and passes its results here as
one token a modality, values [B, 1, C] with C outputs. The result is one token
[B, 1, C], outputs again.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import ops
from mmjax.errors import ConfigError, check_choice
from mmjax.fusion import features, modalities
from mmjax.types import Array, TokenVectors

SPACES = ('probabilities', 'outputs')


class DecisionFusion(nn.Module):
  """One output vector from those of all modalities.

  A subclass defines `decide`. An absent modality has no say.

  Attributes:
    dtype: unused: decisions are float32.
  """

  level: ClassVar[str] = 'decision'

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, tokens: Mapping[str, TokenVectors], *, train: bool
  ) -> TokenVectors:
    """Fuses outputs, in the order of the modalities' names.

    Args:
      tokens: by modality, the output [B, C] as `pooled`, and which examples
        have the modality as `mask`.
      train: unused, as there is no dropout.

    Returns:
      TokenVectors: one token [B, 1, C] float32, and the same vector as
      `pooled`.

    Raises:
      ConfigError: if there is no modality, or they have different C.
    """
    del train
    names = modalities.sort_names(tokens)
    pooled = modalities.get_summaries(tokens)
    sizes = {name: vector.shape[-1] for name, vector in pooled.items()}
    if len(set(sizes.values())) > 1:
      raise ConfigError(
        f'the modalities have outputs of different sizes, {sizes}; a '
        'decision-level fusion needs the same targets of each'
      )
    present = modalities.stack_presence(tokens, names)
    outputs = jnp.stack([pooled[name] for name in names], axis=1)
    vector = self.decide(outputs.astype(jnp.float32), present)
    return modalities.make_single(vector, present.any(axis=1))

  def decide(self, outputs: Array, present: Array) -> Array:
    """Fuses outputs [B, m, C], zeros where not `present` [B, m], to [B, C]."""
    raise NotImplementedError


class _Averaged(DecisionFusion):
  """What the rules have in common that work with two kinds of outputs.

  Attributes:
    space: 'probabilities' for logits of exclusive classes, whose softmax is
      fused, with its logarithm as the result; 'outputs' for numbers and for
      logits of several classes at once, which are fused as they are.
  """

  space: str = 'probabilities'

  def decide(self, outputs, present):
    """Fuses outputs [B, m, C] to [B, C]."""
    check_choice(self.space, SPACES, 'space')
    if self.space == 'outputs':
      return self.combine(outputs, present)
    return take_log(self.combine(jax.nn.softmax(outputs, axis=-1), present))

  def combine(self, x: Array, present: Array) -> Array:
    """Fuses probabilities or outputs [B, m, C] to [B, C]."""
    raise NotImplementedError


class MeanDecision(_Averaged):
  """The mean of the modalities' probabilities.

  The sum rule of Kittler et al. 1998, section 2.
  """

  def combine(self, x, present):
    """Fuses probabilities or outputs [B, m, C] to [B, C]."""
    return ops.mean_tokens(x, present)


class MaxDecision(_Averaged):
  """Each class's largest probability over modalities.

  The max rule of Kittler et al. 1998, section 2.
  """

  def combine(self, x, present):
    """Fuses probabilities or outputs [B, m, C] to [B, C]."""
    return features.take_largest(x, present)


class WeightedDecision(_Averaged):
  """A mean of probabilities with one learned weight a modality.

  The linear opinion pool (Jacobs et al. 1991, with weights that
  don't depend on the input); the weights are a softmax over the modalities that
  are present.
  """

  def combine(self, x, present):
    """Fuses probabilities or outputs [B, m, C] to [B, C]."""
    return jnp.einsum('bm,bmc->bc', features.compute_weights(self, present), x)


class Stacking(DecisionFusion):
  """A dense layer on all modalities' outputs.

  Stacked generalisation (Wolpert 1992) with a linear learner, trained with the
  rest. The layer also gets which modalities are present.
  """

  def decide(self, outputs, present):
    """Fuses outputs [B, m, C] to [B, C]."""
    size = outputs.shape[-1]
    everything = jnp.concatenate(
      [outputs.reshape(len(outputs), -1), present.astype(jnp.float32)], axis=-1
    )  # [B, m * (C + 1)]
    return modalities.make_projection(size, jnp.float32, 'output')(everything)


class ProductOfExperts(DecisionFusion):
  """The product of the modalities' probabilities: the sum of their logarithms.

  Hinton 2002, equation 1, for classes, which needs no sampling; without priors
  also the product rule of Kittler et al. 1998.
  """

  def decide(self, outputs, present):
    """Fuses outputs [B, m, C] to [B, C]."""
    scores = ops.zero_masked(jax.nn.log_softmax(outputs, axis=-1), present)
    return jax.nn.log_softmax(scores.sum(axis=1), axis=-1)


class Voting(DecisionFusion):
  """A vote of probabilities with one learned temperature a modality.

  Logits are divided by their modality's temperature (Guo et al. 2017, equation
  9), and the probabilities averaged, so an overconfident modality can't
  outvote the others.
  """

  def decide(self, outputs, present):
    """Fuses outputs [B, m, C] to [B, C]."""
    log_temperature = self.param(
      'log_temperature',
      nn.with_logical_partitioning(nn.initializers.zeros, (None,)),
      (outputs.shape[1],),
      jnp.float32,
    )
    scaled = outputs * jnp.exp(-log_temperature)[None, :, None]
    return take_log(ops.mean_tokens(jax.nn.softmax(scaled, axis=-1), present))


def take_log(probabilities: Array) -> Array:
  """Their logarithm, finite where they are 0."""
  return jnp.log(jnp.maximum(probabilities, jnp.finfo(jnp.float32).tiny))
