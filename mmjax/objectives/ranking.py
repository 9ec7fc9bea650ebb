"""Contrastive learning of one direction, with hard negatives or MaxSim."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from mmjax import ops
from mmjax.errors import ConfigError, check_choice
from mmjax.objectives import presence
from mmjax.parallel import collectives
from mmjax.types import Array, AxisNames, Batch, Items, Metrics, Outputs, Tile

SCORES = ('cosine', 'maxsim')


@dataclasses.dataclass(frozen=True)
class Ranking:
  """Each query should rank its own document first.

  The cross-entropy of a query's document among those of the whole batch and all
  hard negatives of the batch (Karpukhin et al. 2020, section 3.2), with
  embeddings of a language model as in E5-V (Jiang et al. 2024) and VLM2Vec
  (Jiang et al. 2024), or with MaxSim as in ColPali (Faysse et al. 2024).

  Needs the outputs `FEATURE_embedding`, of unit vectors [B, E], or for MaxSim
  of several for each example [B, N, E], padding being 0; those of negatives
  have an axis n behind B; and `logit_scale` [].

  Attributes:
    features: names of the queries and the documents.
    negatives: name of n wrong documents of each query; '' for none.
    score: 'cosine', or 'maxsim' (`mmjax.ops.maxsim`).
    tile: number of documents whose tokens are compared at once by MaxSim; 0 for
      all.
  """

  features: Sequence[str]
  negatives: str = ''
  score: str = 'cosine'
  tile: Tile = 0

  def __post_init__(self):
    object.__setattr__(self, 'features', tuple(self.features))
    names = [*self.features, self.negatives]
    if len(self.features) != 2 or len(set(names)) < 3:
      raise ConfigError(
        f'features={self.features} with negatives={self.negatives!r}: hard '
        'negatives and MaxSim are for two features, queries and documents, and '
        'negatives are another one'
      )
    check_choice(self.score, SCORES, 'score')
    if self.tile and self.score != 'maxsim':
      raise ConfigError(
        f'tile={self.tile} is for MaxSim here; leave it out, or the negatives'
      )

  @property
  def pairs(self) -> tuple[tuple[str, str], ...]:
    """The pair of features that is compared."""
    return (self.features,)

  @property
  def compared_outputs(self) -> tuple[str, ...]:
    """Names of the outputs in which examples are compared."""
    names = (*self.features, *filter(None, [self.negatives]))
    return (*(f'{name}_embedding' for name in names), 'logit_scale')

  def count(self, batch: Batch) -> Array:
    """Number of queries with a document."""
    mask = presence.joint_mask(batch, *self.features)
    return mask.sum(dtype=jnp.float32)

  def __call__(
    self,
    outputs: Outputs,
    batch: Batch,
    *,
    apply: Callable[..., Outputs],
    rng: Array,
    axis_name: AxisNames | None = None,
  ) -> tuple[Array, Metrics]:
    """The loss, and `accuracy` and `logit_scale` as metrics."""
    del apply, rng
    mask = presence.joint_mask(batch, *self.features)  # [B]
    queries, documents = (
      ops.zero_masked(presence.get_output(outputs, f'{name}_embedding'), mask)
      for name in self.features
    )
    labels = jnp.arange(len(mask))
    if axis_name is not None:
      labels += jax.lax.axis_index(axis_name) * len(mask)
    candidates = [_gather((documents, mask), axis_name)]
    if self.negatives:
      negatives = self._flatten_negatives(outputs, batch, mask)
      candidates.append(_gather(negatives, axis_name))
    scale, lowest = outputs['logit_scale'], jnp.finfo(jnp.float32).min
    # Negatives may have another number of tokens.
    logits = jnp.concatenate(
      [
        jnp.where(
          is_candidate[None], scale * self._score(queries, vectors), lowest
        )
        for vectors, is_candidate in candidates
      ],
      axis=1,
    )  # [B, C]
    log_probs = jax.nn.log_softmax(logits)
    losses = -jnp.take_along_axis(log_probs, labels[:, None], axis=1)[:, 0]
    first = jnp.argmax(logits, axis=1) == labels
    return ops.masked_mean(losses, mask), {
      'accuracy': ops.masked_mean(first, mask),
      'logit_scale': scale,
      'items': Items(losses[:, None], mask[:, None]),
    }

  def _score(self, queries: Array, documents: Array) -> Array:
    if self.score == 'maxsim':
      return ops.maxsim(queries, documents, tile=self.tile)
    return queries @ documents.T

  def _flatten_negatives(
    self, outputs: Outputs, batch: Batch, mask: Array
  ) -> tuple[Array, Array]:
    """The negatives of all examples in a row, and which of them exist."""
    vectors = presence.get_output(outputs, f'{self.negatives}_embedding')
    exists = presence.presence_mask(batch, self.negatives) & mask[:, None]
    vectors = ops.zero_masked(vectors, exists)  # [B, n, ...]
    return vectors.reshape(-1, *vectors.shape[2:]), exists.reshape(-1)


def _gather(
  arrays: tuple[Array, Array], axis_name: AxisNames | None
) -> tuple[Array, Array]:
  """The arrays of all devices."""
  if axis_name is None:
    return arrays
  vectors, mask = (collectives.gather(x, axis_name) for x in arrays)
  return vectors, mask
