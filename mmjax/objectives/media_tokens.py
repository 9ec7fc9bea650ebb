"""The losses of predicting tokens of images and sounds."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import einops
import jax
import jax.numpy as jnp

from mmjax import ops
from mmjax.errors import ConfigError
from mmjax.objectives import presence, text
from mmjax.types import (
  Array,
  AxisNames,
  Batch,
  Fraction,
  Items,
  Metrics,
  Outputs,
)


@dataclasses.dataclass(frozen=True)
class _Drawing:
  """What the losses have in common: an example needs image and condition."""

  compared_outputs: ClassVar[tuple[str, ...]] = ()

  feature: str = 'image'
  condition: str = ''
  drop_condition: Fraction = 0.1

  def count(self, batch: Batch) -> Array:
    """Number of examples that have the image and its condition."""
    return self._mask(batch).sum(dtype=jnp.float32)

  def _mask(self, batch: Batch) -> Array:
    features = (self.condition,) if self.condition else ()
    return presence.joint_mask(batch, self.feature, *features)


@dataclasses.dataclass(frozen=True)
class MaskedImageTokens(_Drawing):
  """Cross-entropy of the hidden tokens of images (Chang et al. 2022, eq. 1).

  Each example hides a fraction cos(pi u / 2) of its tokens, u uniform in 0..1,
  at least one. The mean is over an example's hidden tokens, then over examples.
  The model needs `encode_tokens` and `predict_tokens`.

  Attributes:
    feature: name of the image that is drawn, [B, H, W, C].
    condition: name of what says what to draw; '' for nothing. An example needs
      both.
    drop_condition: fraction of examples that are predicted without their
      condition, for guidance (Ho and Salimans 2022, algorithm 1).
  """

  def __call__(
    self,
    outputs: Outputs,
    batch: Batch,
    *,
    apply: Callable[..., Any],
    rng: Array,
    axis_name: AxisNames | None = None,
  ) -> tuple[Array, Metrics]:
    """The loss, and `accuracy` of the hidden tokens as a metric."""
    del outputs, axis_name
    mask = self._mask(batch)
    rate_key, place_key, drop_key, dropout = jax.random.split(rng, 4)
    images = ops.zero_masked(batch[self.feature], mask)
    ids = apply(images, method='encode_tokens')
    hidden = self.hide(ids.shape, rate_key, place_key)
    logits = apply(
      ids,
      hidden,
      batch,
      jax.random.bernoulli(drop_key, 1 - self.drop_condition, mask.shape),
      train=True,
      rngs={'dropout': dropout},
      method='predict_tokens',
    )
    flat = lambda x: einops.rearrange(x, 'b h w ... -> b (h w) ...')
    logits = ops.zero_masked(flat(logits), mask)
    labels, hidden = flat(ids), flat(hidden)
    number = hidden.sum(axis=1)
    mean = lambda x: jnp.where(hidden, x, 0.0).sum(axis=1) / number
    losses = mean(text.cross_entropy(logits, labels))
    right = mean(jnp.argmax(logits, axis=-1) == labels)
    return (
      ops.masked_mean(losses, mask),
      {
        'accuracy': ops.masked_mean(right, mask),
        'items': Items(losses, mask),
      },
    )

  def hide(
    self, shape: tuple[int, int, int], rate_key: Array, place_key: Array
  ) -> Array:
    """Which tokens to hide, bool of the shape [B, h, w]."""
    number, rows, columns = shape
    rates = jnp.cos(jax.random.uniform(rate_key, (number, 1)) * jnp.pi / 2)
    scores = jax.random.uniform(place_key, (number, rows * columns))
    ranks = jnp.argsort(jnp.argsort(scores, axis=1), axis=1)
    chosen = ranks < jnp.maximum(jnp.round(rates * rows * columns), 1)
    return chosen.reshape(shape)


@dataclasses.dataclass(frozen=True)
class NextImageTokens(_Drawing):
  """Cross-entropy of the tokens of images, each by a text and those before it.

  The loss of images in Janus (Wu et al. 2024, equation 1). The mean is over an
  example's tokens, then over examples. The model needs `encode_tokens` and
  `predict_written_tokens`, such as an `ImageFirstVisionLanguage` with
  `image_codes`.

  Attributes:
    feature: name of the image that is drawn, [B, H, W, C].
    condition: name of the text that says what to draw, `text`.
    drop_condition: fraction of examples whose text is void, for guidance (Ho
      and Salimans 2022, algorithm 1).
  """

  kind: ClassVar[str] = 'image'

  condition: str = 'text'

  def __post_init__(self):
    if self.condition != 'text':
      raise ConfigError(
        f'condition={self.condition!r} is not legal: the model reads the '
        "feature 'text' before the tokens; use another feature of that name"
      )

  def __call__(
    self,
    outputs: Outputs,
    batch: Batch,
    *,
    apply: Callable[..., Any],
    rng: Array,
    axis_name: AxisNames | None = None,
  ) -> tuple[Array, Metrics]:
    """The loss, and `accuracy` of the tokens as a metric."""
    del outputs, axis_name
    mask = self._mask(batch)
    drop_key, dropout = jax.random.split(rng)
    values = ops.zero_masked(batch[self.feature], mask)
    values = ops.zero_masked(values, batch.get(f'{self.feature}_mask'))
    ids = apply(values, kind=self.kind, method='encode_tokens')
    logits = apply(
      ids,
      batch,
      jax.random.bernoulli(drop_key, 1 - self.drop_condition, mask.shape),
      kind=self.kind,
      train=True,
      rngs={'dropout': dropout},
      method='predict_written_tokens',
    )
    logits = ops.zero_masked(logits, mask)
    losses = text.cross_entropy(logits, ids).mean(axis=(1, 2))
    right = (jnp.argmax(logits, axis=-1) == ids).mean(axis=(1, 2))
    return (
      ops.masked_mean(losses, mask),
      {
        'accuracy': ops.masked_mean(right, mask),
        'items': Items(losses, mask),
      },
    )


@dataclasses.dataclass(frozen=True)
class NextSoundTokens(NextImageTokens):
  """The same of the tokens of sounds, samples [B, S], with `sound_codes`.

  What a sound lacks of its feature's length is silence, and has tokens too.
  """

  kind: ClassVar[str] = 'sound'

  feature: str = 'sound'
