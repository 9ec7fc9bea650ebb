"""Learning which of two answers is preferred, from their log-probabilities."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
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

# Losses that compare with a reference, and those that don't.
REFERENCED = ('sigmoid', 'ipo', 'hinge')
REFERENCE_FREE = ('simpo', 'orpo')


def preference_losses(
  chosen: Float[Array, 'B'],
  rejected: Float[Array, 'B'],
  *,
  loss: str,
  beta: float,
  gamma: float = 0.0,
  label_smoothing: float = 0.0,
) -> Float[Array, 'B']:
  """The loss of each pair of answers.

  With m the difference of both scores:

    sigmoid  -log sigmoid(beta m), DPO (Rafailov et al. 2023, equation 7); with
             label smoothing e also -e log sigmoid(-beta m), the first times
             1 - e (their reference implementation's conservative DPO)
    hinge    max(0, 1 - beta m) (SLiC, Zhao et al. 2023)
    ipo      (m - 1 / (2 beta))^2 (Azar et al. 2024, equation 17)
    simpo    as sigmoid, of beta m - gamma (Meng et al. 2024, equation 6)
    orpo     -beta log sigmoid of the difference of the log-odds (Hong et al.
             2024, equation 7), without the loss of the chosen answer

  Args:
    chosen: score of the preferred answer: the sum of its tokens'
      log-probabilities minus the reference's, of ipo their mean; of simpo and
      orpo the mean log-probability.
    rejected: score of the other one.
    loss: one of the names above.
    beta: factor on the scores, of ipo tau; of orpo the weight lambda.
    gamma: margin of simpo.
    label_smoothing: probability that the preference is the other way round; of
      sigmoid and simpo.
  """
  margin = chosen - rejected
  if loss == 'ipo':
    return jnp.square(margin - 1 / (2 * beta))
  if loss == 'hinge':
    return jax.nn.relu(1 - beta * margin)
  if loss == 'orpo':
    return -beta * jax.nn.log_sigmoid(_log_odds(chosen) - _log_odds(rejected))
  logits = beta * margin - (gamma if loss == 'simpo' else 0.0)
  return -(
    (1 - label_smoothing) * jax.nn.log_sigmoid(logits)
    + label_smoothing * jax.nn.log_sigmoid(-logits)
  )


def _log_odds(log_prob: Array) -> Array:
  """log p - log(1 - p) of log p; finite also where p rounds to 1."""
  log_prob = jnp.minimum(log_prob, -1e-6)
  return log_prob - jnp.log(-jnp.expm1(log_prob))


@dataclasses.dataclass(frozen=True)
class Preference:
  """Makes the preferred of two answers likelier than the other one.

  Needs the output `TARGET_logits` [B, T - 1, V] of the preferred answer, and
  runs the model once more for the other one, whose arrays are
  `TARGET_rejected` [B, T] with a mask and which tokens are learnt. An example
  counts if both answers have a token. The answer's tokens are those that are
  learnt, as in `AssistantGeneration`. With 'orpo', the mean cross-entropy of
  the preferred answer's tokens is added.

  Attributes:
    target: name of the feature.
    loss: one of `REFERENCE_FREE`; of `ReferencedPreference`, of `REFERENCED`.
    beta: beta, as in `preference_losses`.
    gamma: gamma, as in `preference_losses`.
    label_smoothing: label smoothing, as in `preference_losses`.
  """

  compared_outputs: ClassVar[tuple[str, ...]] = ()

  target: str
  loss: str
  beta: float
  gamma: float = 0.0
  label_smoothing: float = 0.0

  def count(self, batch: Batch) -> Array:
    """Number of pairs."""
    return self._find_pairs(batch).sum(dtype=jnp.float32)

  def __call__(
    self,
    outputs: Outputs,
    batch: Batch,
    *,
    apply: Callable[..., Outputs],
    rng: Array,
    axis_name: AxisNames | None = None,
  ) -> tuple[Array, Metrics]:
    """The loss, and as metrics those of `_measure`."""
    del axis_name
    return self._measure(batch, *self._score(outputs, batch, apply, rng))

  def _score(self, outputs, batch, apply, rng) -> tuple[Array, Array]:
    """Log-probabilities [B] of both answers, summed over their tokens."""
    swapped = self.swap(batch)
    others = apply(swapped, train=True, rngs={'dropout': rng})
    return self.score(outputs, batch), self.score(others, swapped)

  def score(self, outputs: Outputs, batch: Batch) -> Float[Array, 'B']:
    """Log-probability [B] of the answer in the batch's `TARGET`."""
    logits = presence.get_output(outputs, f'{self.target}_logits')
    found = text.token_log_probs(
      logits, batch[self.target], self._find_tokens(batch, self.target)
    )
    return found.sum(axis=-1)

  def swap(self, batch: Batch) -> Batch:
    """The batch with the other answer in the place of the preferred one."""
    prefix = f'{self.target}_rejected'
    other = {
      f'{self.target}{name.removeprefix(prefix)}': array
      for name, array in batch.items()
      if name.startswith(prefix)
    }
    return {**batch, **other}

  def count_tokens(self, batch: Batch) -> tuple[Array, Array]:
    """Numbers [B] of the tokens of both answers."""
    return tuple(
      self._find_tokens(batch, name)[:, 1:].sum(axis=1) for name in self._names
    )

  def measure(
    self, chosen: Array, rejected: Array, lengths: tuple[Array, Array]
  ) -> tuple[Array, Array, Array]:
    """Losses [B] and the rewards [B] of both answers.

    A reward is beta times the log-probability minus the reference's; without a
    reference, times the mean log-probability of a token.

    Args:
      chosen: log-probability [B] of the preferred answers, minus the
        reference's if there is one.
      rejected: the same of the others.
      lengths: lengths of `count_tokens`.
    """
    scores = chosen, rejected
    if self.loss not in ('sigmoid', 'hinge'):
      scores = tuple(
        score / jnp.maximum(length, 1)
        for score, length in zip(scores, lengths, strict=True)
      )
    losses = preference_losses(
      *scores,
      loss=self.loss,
      beta=self.beta,
      gamma=self.gamma,
      label_smoothing=self.label_smoothing,
    )
    if self.loss == 'orpo':
      losses -= scores[0]
    if self.loss in REFERENCED:
      scores = chosen, rejected
    return losses, *(self.beta * jax.lax.stop_gradient(x) for x in scores)

  def _measure(
    self,
    batch: Batch,
    chosen: Array,
    rejected: Array,
    references: tuple[Any, Any] = (0.0, 0.0),
  ) -> tuple[Array, Metrics]:
    """The loss, and metrics of the rewards.

    `accuracy` is the fraction of pairs whose preferred answer has the larger
    one, `margin` the mean difference; `chosen_log_prob` and
    `rejected_log_prob` are means over answers of the log-probabilities.
    """
    mask = self._find_pairs(batch)
    losses, *rewards = self.measure(
      chosen - references[0],
      rejected - references[1],
      self.count_tokens(batch),
    )
    mean = lambda x: ops.masked_mean(x, mask)
    return mean(losses), {
      'accuracy': mean(rewards[0] > rewards[1]),
      'margin': mean(rewards[0] - rewards[1]),
      'chosen_reward': mean(rewards[0]),
      'rejected_reward': mean(rewards[1]),
      'chosen_log_prob': mean(chosen),
      'rejected_log_prob': mean(rejected),
      'items': Items(losses, mask),
    }

  @property
  def _names(self) -> tuple[str, str]:
    return self.target, f'{self.target}_rejected'

  def _find_tokens(self, batch: Batch, name: str) -> Bool[Array, 'B T']:
    """The tokens of an answer."""
    present = presence.joint_mask(batch, *self._names)
    found = batch[f'{name}_mask'] & batch[f'{name}_loss_mask']
    return found & present[:, None]

  def _find_pairs(self, batch: Batch) -> Bool[Array, 'B']:
    """The pairs of which both answers have a token."""
    chosen, rejected = self.count_tokens(batch)
    return (chosen > 0) & (rejected > 0)


@dataclasses.dataclass(frozen=True)
class ReferencedPreference(Preference):
  """`Preference` whose scores are compared with the initial model's.

  Attributes:
    loss: one of `REFERENCED`.
  """

  teacher: ClassVar[str] = 'initial'

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
    """The loss, and as metrics those of `Preference`."""
    del axis_name
    references = tuple(
      jax.lax.stop_gradient(self.score(apply_teacher(part), part))
      for part in (batch, self.swap(batch))
    )
    scores = self._score(outputs, batch, apply, rng)
    return self._measure(batch, *scores, references)
