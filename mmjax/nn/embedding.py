"""Token ids to vectors and back."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmjax import ops
from mmjax.errors import ConfigError, check_choice
from mmjax.nn import dense
from mmjax.parallel import rules
from mmjax.types import Array, FactoredLogits, Size

_POSITIONS = ('learned', 'sincos', 'none')


class TokenEmbedding(nn.Module):
  """A table of word vectors, and one of positions.

  Attributes:
    vocab_size: size of the vocabulary V.
    width: number of features D.
    max_length: number of positions.
    positions: 'learned', 'sincos' or 'none'.
    first_position: row of the first token in the table of positions (OPT: 2).
    scale: factor on word vectors.
    dtype: dtype of the computation.
  """

  vocab_size: Size
  width: Size
  max_length: Size
  positions: str = 'learned'
  first_position: int = 0
  scale: float = 1.0
  dtype: Any = jnp.float32

  def setup(self):
    check_choice(self.positions, _POSITIONS, 'positions')
    self.table = nn.Embed(
      self.vocab_size,
      self.width,
      embedding_init=nn.with_logical_partitioning(
        nn.initializers.normal(0.02), ('vocab', 'embed')
      ),
      dtype=self.dtype,
    )
    if self.positions == 'learned':
      self.position_table = self.param(
        'position_table',
        nn.with_logical_partitioning(
          nn.initializers.normal(0.02), (None, 'embed')
        ),
        (self.first_position + self.max_length, self.width),
        jnp.float32,
      )

  def __call__(self, tokens: Array, positions: Array | None = None) -> Array:
    """Embeds ids with their positions.

    Args:
      tokens: [B, T] int32, or their vectors [B, T, D], made by `embed`.
      positions: [B, T]; None counts from 0.

    Returns:
      [B, T, D]; NaN where a compiled program gets an id or a position that is
      past its table.

    Raises:
      ConfigError: if there is no position for all T, or of known ids or
        positions, one has no row in its table.
    """
    x = tokens if tokens.ndim == 3 else self.embed(tokens)
    if self.positions == 'none':
      return x
    if tokens.shape[1] > self.max_length:
      raise ConfigError(
        f'sequence length {tokens.shape[1]} is more than max_length '
        f'{self.max_length}; shorten the text or raise max_length'
      )
    if self.positions == 'learned':
      table = self.position_table[self.first_position :]
    else:
      table = ops.sincos_1d(self.max_length, self.width)
    table = table.astype(self.dtype)
    if positions is None:
      return x + table[None, : tokens.shape[1]]
    check_ids(positions, self.max_length, 'position', 'raise max_length')
    return x + jnp.take(table, positions, axis=0)

  def embed(self, tokens: Array) -> Array:
    """Word vectors [B, T, D] of ids [B, T], without positions.

    Raises:
      ConfigError: if the ids are known, and one is not of the vocabulary; in a
        compiled program its vector is NaN.
    """
    check_ids(
      tokens,
      self.vocab_size,
      'token id',
      'raise vocab_size, or use the tokenizer of this vocabulary',
    )
    table = self.table.embedding.astype(self.dtype)
    # Rows are taken whole: the axis `embed` of vectors is split like that of
    # activations, not like the table's.
    x = jnp.take(
      rules.constrain(table, 'vocab', None), tokens, axis=0
    )  # [B, T, D]
    x = rules.constrain(x, 'batch', 'length', 'embed')
    if self.scale != 1:
      x = x * jnp.asarray(self.scale, self.dtype)
    return x

  def factor_logits(
    self, x: Array, bias: Array | None = None
  ) -> FactoredLogits:
    """Logits of vectors [..., T, D]: times the table transposed, plus bias."""
    table = self.table.embedding
    x, table = nn.dtypes.promote_dtype(x, table, dtype=self.dtype)
    return FactoredLogits(x, table.T, bias)


class OutputMatrix(nn.Module):
  """The matrix of logits, where it is not the word vectors'.

  Attributes:
    width: number of features D.
    vocab_size: size of the vocabulary V.
  """

  width: Size
  vocab_size: Size

  @nn.compact
  def __call__(self) -> Array:
    """The matrix [D, V]."""
    return self.param(
      'kernel',
      nn.with_logical_partitioning(
        nn.initializers.normal(0.02), ('embed', 'vocab')
      ),
      (self.width, self.vocab_size),
      jnp.float32,
    )


def check_ids(ids: Array, number: int, what: str, way_out: str) -> None:
  """Refuses ids that a table has no row for, where they are known.

  They are not known while a function is traced, as by `jax.jit`.

  Args:
    ids: whole numbers.
    number: number of rows.
    what: name of one id, for the message.
    way_out: what to do about it.

  Raises:
    ConfigError: naming the first such id.
  """
  if isinstance(ids, jax.core.Tracer):
    return
  # Of an array over several hosts, one has a part.
  if not getattr(ids, 'is_fully_addressable', True):
    return
  ids = np.asarray(ids)
  wrong = ids[(ids < 0) | (ids >= number)]
  if wrong.size:
    raise ConfigError(
      f'{what} {wrong.flat[0]} is not one of 0 to {number - 1}; {way_out}'
    )


def make_head(
  features: int, axes: tuple[str, str | None], use_bias: bool, dtype: Any
) -> dense.Dense:
  """A dense layer of an output head, initialised with deviation 0.02.

  Args:
    features: width of the outputs.
    axes: logical axes of inputs and outputs.
    use_bias: whether it adds a bias.
    dtype: dtype of the computation.
  """
  return dense.Dense(
    features,
    use_bias=use_bias,
    kernel_init=nn.with_logical_partitioning(
      nn.initializers.normal(0.02), axes
    ),
    bias_init=nn.with_logical_partitioning(nn.initializers.zeros, axes[1:]),
    dtype=dtype,
  )
