"""Learning from the rewards of several answers to one prompt (GRPO)."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mmjax import ops
from mmjax.objectives import presence, text
from mmjax.types import (
  AxisNames,
  Batch,
  Items,
  Metrics,
  Outputs,
)

_EPSILON = 1e-4


def group_advantages(
  rewards: Float[np.ndarray, 'B'], group: int, *, scale_by_std: bool = True
) -> Float[np.ndarray, 'B']:
  """How much better each answer is than the others to the same prompt.

  >>> group_advantages(np.array([1.0, 0.0, 5.0, 5.0]), 2, scale_by_std=False)
  array([ 0.5, -0.5,  0. ,  0. ], dtype=float32)

  Args:
    rewards: rewards [B], those of one prompt next to each other.
    group: number of answers to a prompt.
    scale_by_std: whether the difference to the group's mean is divided by its
      standard deviation (Shao et al. 2024, section 4.1.2), of a sample, plus
      1e-4; without it, prompts that are nearly always or never answered well
      don't weigh more (Dr. GRPO, Liu et al. 2025, section 3.1).

  Returns:
    Advantages [B] in float32.
  """
  grouped = np.asarray(rewards, np.float64).reshape(-1, group)
  advantages = grouped - grouped.mean(axis=1, keepdims=True)
  if scale_by_std:
    deviation = grouped.std(axis=1, ddof=1, keepdims=True)
    advantages = advantages / (deviation + _EPSILON)
  return advantages.ravel().astype(np.float32)


@dataclasses.dataclass(frozen=True)
class GroupPolicy:
  """Makes answers with a larger reward than others to their prompt likelier.

  The clipped objective of GRPO (Shao et al. 2024, equation 3), with a mean over
  each answer's tokens and then over answers. The ratio is that of the
  probabilities of the model in training and of the sampler that wrote the
  answer.

  Needs the output `TARGET_logits` [B, T - 1, V], and of the batch, beside ids,
  mask and `TARGET_loss_mask` [B, T], True on the tokens of the answer,
  `TARGET_log_probs` [B, T], the sampler's log-probabilities of these tokens,
  `TARGET_advantage` [B] and `TARGET_reward` [B].

  Attributes:
    target: name of the feature of prompts.
    temperature: temperature of sampling.
    clip: how far the ratio may fall below 1, or rise above it, with a gradient.
    clip_high: the same above 1 alone, if it isn't `clip` (Yu et al. 2025,
      equation 8).
    length: number by which the sum over an answer's tokens is divided (Dr.
      GRPO, Liu et al. 2025, section 3.1); 0 for the answer's own.
  """

  compared_outputs: ClassVar[tuple[str, ...]] = ()

  target: str
  temperature: float = 1.0
  clip: float = 0.2
  clip_high: float | None = None
  length: int = 0

  def count(self, batch: Batch) -> Array:
    """Number of answers."""
    return self._find_tokens(batch).any(axis=1).sum(dtype=jnp.float32)

  def __call__(
    self,
    outputs: Outputs,
    batch: Batch,
    *,
    apply: Callable[..., Outputs],
    rng: Array,
    axis_name: AxisNames | None = None,
  ) -> tuple[Array, Metrics]:
    """The loss, and as metrics means over answers.

    They are the `reward`, the `length` in tokens, the fraction with an
    advantage other than 0 as `informative`, and, of means over an answer's
    tokens, `log_prob_difference`, the distance of the log-probabilities here
    and in the sampler, and the fraction `clipped`.
    """
    del apply, rng, axis_name
    return self._measure(batch, self._find_log_probs(outputs, batch))

  def _find_log_probs(
    self, outputs: Outputs, batch: Batch
  ) -> Float[Array, 'B T']:
    logits = presence.get_output(outputs, f'{self.target}_logits')
    tokens = self._find_tokens(batch)
    ids = batch[self.target]
    return text.token_log_probs(logits, ids, tokens, self.temperature)

  def _measure(
    self, batch: Batch, log_probs: Array, penalty: Array | None = None
  ) -> tuple[Array, Metrics]:
    """The loss with a penalty of each token [B, T - 1], and the metrics."""
    tokens = self._find_tokens(batch)[:, 1:]  # [B, T - 1]
    mask, number = tokens.any(axis=1), tokens.sum(axis=1)  # [B]
    advantages = jnp.where(mask, batch[f'{self.target}_advantage'], 0.0)
    sampled = jnp.where(tokens, batch[f'{self.target}_log_probs'][:, 1:], 0.0)
    ratios = jnp.exp(log_probs - sampled)
    above = self.clip if self.clip_high is None else self.clip_high
    clipped = jnp.clip(ratios, 1 - self.clip, 1 + above)
    gains = jnp.minimum(
      ratios * advantages[:, None], clipped * advantages[:, None]
    )
    is_clipped = gains < ratios * advantages[:, None]
    losses = -gains if penalty is None else penalty - gains
    of_answers = lambda x: jnp.where(tokens, x, 0.0).sum(axis=1)
    own = jnp.maximum(number, 1)
    losses = of_answers(losses) / (self.length or own)  # [B]
    mean = lambda x: ops.masked_mean(x, mask)
    difference = jax.lax.stop_gradient(jnp.abs(log_probs - sampled))
    reward = jnp.where(mask, batch[f'{self.target}_reward'], 0.0)
    return mean(losses), {
      'reward': mean(reward),
      'length': mean(number.astype(jnp.float32)),
      'informative': mean(advantages != 0),
      'log_prob_difference': mean(of_answers(difference) / own),
      'clipped': mean(of_answers(is_clipped) / own),
      'items': Items(losses, mask),
    }

  def _find_tokens(self, batch: Batch) -> Bool[Array, 'B T']:
    """The tokens of answers; the first one has nothing before it."""
    present = presence.presence_mask(batch, self.target)
    found = batch[f'{self.target}_mask'] & batch[f'{self.target}_loss_mask']
    return (found & present[:, None]).at[:, 0].set(False)


@dataclasses.dataclass(frozen=True)
class ReferencedGroupPolicy(GroupPolicy):
  """`GroupPolicy` with a penalty on the distance to the initial model.

  Each token's is q / p - log(q / p) - 1, where p and q are its probabilities in
  the model and in the initial one (Shao et al. 2024, equation 4).

  Attributes:
    beta: factor on the penalty.
  """

  teacher: ClassVar[str] = 'initial'

  beta: float = 0.04

  def __call__(
    self,
    outputs: Outputs,
    batch: Batch,
    *,
    apply: Callable[..., Outputs],
    rng: Array,
    apply_teacher: Callable[[Batch], Outputs],
    axis_name: AxisNames | None = None,
  ) -> tuple[Array, Metrics]:
    """The loss, and as metrics those of `GroupPolicy` and the `distance`."""
    del apply, rng, axis_name
    log_probs = self._find_log_probs(outputs, batch)
    reference = self._find_log_probs(apply_teacher(batch), batch)
    above = jax.lax.stop_gradient(reference) - log_probs
    distances = jnp.exp(above) - above - 1  # [B, T - 1]
    loss, metrics = self._measure(batch, log_probs, self.beta * distances)
    tokens = self._find_tokens(batch)[:, 1:]
    own = jnp.maximum(tokens.sum(axis=1), 1)
    of_answers = jnp.where(tokens, distances, 0.0).sum(axis=1) / own
    metrics['distance'] = ops.masked_mean(of_answers, tokens.any(axis=1))
    return loss, metrics
