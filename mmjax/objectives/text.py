"""Objectives on generated text and on classified answers."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mmjax import ops
from mmjax.errors import ConfigError
from mmjax.objectives import presence
from mmjax.parallel import vocabulary
from mmjax.types import (
  AxisNames,
  Batch,
  FactoredLogits,
  Items,
  Metrics,
  Outputs,
)


def cross_entropy(
  logits: Float[Array, '*N V'],
  labels: Int[Array, '*N'],
  label_smoothing: float = 0.0,
) -> Float[Array, '*N']:
  """Negative log-probability of each label, in float32.

  Args:
    logits: logits [..., V].
    labels: integers [...] in [0, V).
    label_smoothing: fraction of the target that is spread over all V classes
      (Szegedy et al. 2016, section 7).
  """
  log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))  # [..., V]
  right = jnp.take_along_axis(log_probs, labels[..., None], axis=-1)[..., 0]
  smooth = log_probs.mean(axis=-1)  # [...]
  return -(1 - label_smoothing) * right - label_smoothing * smooth


def mean_cross_entropy(
  logits: Float[Array, '*N V'] | FactoredLogits,
  labels: Int[Array, '*N'],
  mask: Bool[Array, '*N'],
  label_smoothing: float = 0.0,
) -> tuple[Float[Array, ''], Float[Array, ''], Items]:
  """Mean cross-entropy of the items where `mask` is True.

  If the logits are not materialised, and are more than a device should hold,
  they never are as a whole (`mmjax.parallel.vocabulary`).

  Args:
    logits: logits [..., V]. Those of items that don't count may be anything.
    labels: integers [...] in [0, V).
    mask: [...], True for the items that count.
    label_smoothing: fraction of the target that is spread over all V classes.

  Returns:
    The mean, and the fraction of items whose label has the highest logit, both
    0 without any item; and the items, whose losses have gradients only if the
    logits are materialised.
  """
  if isinstance(logits, FactoredLogits):
    if not vocabulary.fits(logits):
      loss, losses, right = vocabulary.mean_cross_entropy(
        logits, labels, mask, label_smoothing
      )
      return loss, ops.masked_mean(right, mask), Items(losses, mask)
    logits = vocabulary.multiply(logits)
  logits = ops.zero_masked(logits, mask)
  losses = cross_entropy(logits, labels, label_smoothing)
  right = jnp.argmax(logits, axis=-1) == labels
  loss, accuracy = (ops.masked_mean(x, mask) for x in (losses, right))
  return loss, accuracy, Items(losses, mask)


def token_log_probs(
  logits: Float[Array, '*B _ V'] | FactoredLogits,
  tokens: Int[Array, '*B T'],
  mask: Bool[Array, '*B T'],
  temperature: float = 1.0,
) -> Float[Array, '*B _']:
  """Log-probability of each token after those before it, in float32.

  Where a device should not hold all logits, they never exist as a whole.

  Args:
    logits: logits [B, T - 1, V]; position t predicts token t + 1. Here B may be
      several axes.
    tokens: token ids [B, T].
    mask: [B, T], True for the tokens that count.
    temperature: divisor of the logits.

  Returns:
    Log-probabilities [B, T - 1] of the tokens 1 to T - 1, 0 where they don't
    count.
  """
  labels, mask = tokens[..., 1:], mask[..., 1:]
  if isinstance(logits, FactoredLogits):
    if temperature != 1:
      divide = lambda x: None if x is None else x / temperature
      logits = logits.replace(
        vectors=divide(logits.vectors),
        bias=divide(logits.bias),
        softcap=divide(logits.softcap),
      )
    if not vocabulary.fits(logits):
      return -vocabulary.cross_entropies(logits, labels, mask)
    logits = vocabulary.multiply(logits)
  else:
    logits = logits / temperature
  losses = cross_entropy(ops.zero_masked(logits, mask), labels)
  return jnp.where(mask, -losses, 0.0)


def next_token_loss(
  logits: Float[Array, '*B _ V'] | FactoredLogits,
  tokens: Int[Array, '*B T'],
  mask: Bool[Array, '*B T'],
  label_smoothing: float = 0.0,
) -> tuple[Float[Array, ''], Float[Array, '']]:
  """Mean cross-entropy of predicting each token from those before it.

  Args:
    logits: logits [B, T - 1, V]; position t predicts token t + 1. Here B may be
      several axes.
    tokens: token ids [B, T].
    mask: [B, T], True for tokens that are not padding.
    label_smoothing: fraction of the target spread over all tokens.

  Returns:
    The loss and the fraction of tokens with the highest logit, both 0 if there
    are no tokens.
  """
  return mean_cross_entropy(
    logits, tokens[..., 1:], mask[..., 1:], label_smoothing
  )[:2]


def _check_smoothing(label_smoothing: float) -> None:
  """Raises ConfigError if the label smoothing is not in [0, 1)."""
  if not 0 <= label_smoothing < 1:
    raise ConfigError(
      f'label_smoothing must be at least 0 and less than 1, got '
      f'{label_smoothing}'
    )


@dataclasses.dataclass(frozen=True)
class _NextToken:
  """Predicts each token of a text from those before it.

  A subclass names the batch key of the text, the output of its logits, and the
  modalities that an example must have.
  """

  text: ClassVar[str]
  output_key: ClassVar[str]
  compared_outputs: ClassVar[tuple[str, ...]] = ()

  label_smoothing: float = 0.0

  def __post_init__(self):
    _check_smoothing(self.label_smoothing)

  def count(self, batch: Batch) -> Array:
    """Number of tokens to predict."""
    return self._make_mask(batch)[..., 1:].sum(dtype=jnp.float32)

  def __call__(
    self,
    outputs: Outputs,
    batch: Batch,
    *,
    apply: Callable[..., Outputs],
    rng: Array,
    axis_name: AxisNames | None = None,
  ) -> tuple[Array, Metrics]:
    """The loss, and `token_accuracy` as a metric."""
    del apply, rng, axis_name
    loss, accuracy, items = mean_cross_entropy(
      presence.get_output(outputs, self.output_key),
      batch[self.text][..., 1:],
      self._make_mask(batch)[..., 1:],
      self.label_smoothing,
    )
    return loss, {'token_accuracy': accuracy, 'items': items}

  def required_features(self) -> tuple[str, ...]:
    """The features without which an example is masked out of the loss."""
    raise NotImplementedError

  def _make_mask(self, batch: Batch) -> Array:
    present = presence.joint_mask(batch, *self.required_features())
    return batch[f'{self.text}_mask'] & present[..., None]


@dataclasses.dataclass(frozen=True)
class TextGeneration(_NextToken):
  """Predicts each token of a text feature from those before it.

  Needs the output `TARGET_logits` [B, T - 1, V]. Examples without the target
  are masked.

  Attributes:
    target: name of the text feature.
    label_smoothing: fraction of the target spread over all tokens.
  """

  target: str = ''

  @property
  def text(self) -> str:
    """Key of the text."""
    return self.target

  @property
  def output_key(self) -> str:
    """Name of the model's output."""
    return f'{self.target}_logits'

  def required_features(self) -> tuple[str, ...]:
    return (self.target,)


@dataclasses.dataclass(frozen=True)
class AssistantGeneration(TextGeneration):
  """Predicts what the assistant says from all that is before it.

  Needs the output `TARGET_logits` [B, T - 1, V], and `TARGET_loss_mask` [B, T],
  True for the tokens that are predicted (Liu et al. 2023, equation 3).

  Attributes:
    target: name of the conversations' feature.
    label_smoothing: fraction of the target spread over all tokens.
  """

  def _make_mask(self, batch: Batch) -> Array:
    return super()._make_mask(batch) & batch[f'{self.target}_loss_mask']


@dataclasses.dataclass(frozen=True)
class CaptionGeneration(_NextToken):
  """Captioning: predicts each token of a caption (Vinyals et al. 2015, eq. 8).

  Needs the output `caption_logits` [B, T - 1, V]. Examples without image or
  text are masked.

  Attributes:
    label_smoothing: fraction of the target spread over all tokens.
  """

  text: ClassVar[str] = 'text'
  output_key: ClassVar[str] = 'caption_logits'

  def required_features(self) -> tuple[str, ...]:
    return ('image', 'text')


@dataclasses.dataclass(frozen=True)
class AnswerGeneration(_NextToken):
  """Visual question answering that generates the answer as text.

  Needs the output `answer_token_logits` [B, A - 1, V], or [B, n, A - 1, V] for
  n questions per image. Examples without question, answer or image are masked.

  Attributes:
    label_smoothing: fraction of the target spread over all tokens.
    needs_image: whether examples need an image; False for a blind baseline.
  """

  text: ClassVar[str] = 'answer'
  output_key: ClassVar[str] = 'answer_token_logits'

  needs_image: bool = True

  def required_features(self) -> tuple[str, ...]:
    image = ('image',) if self.needs_image else ()
    return ('question', 'answer', *image)


@dataclasses.dataclass(frozen=True)
class AnswerClassification:
  """Visual question answering that classifies answers of a fixed vocabulary.

  Needs the output `answer_logits` [B, C] (Antol et al. 2015, section 4.2), or
  [B, n, C] for n questions per image. Examples without question or image, or
  whose answer is not in the vocabulary, are masked.

  Attributes:
    needs_image: whether examples need an image; False for a blind baseline.
    label_smoothing: fraction of the target spread over all answers.
  """

  compared_outputs: ClassVar[tuple[str, ...]] = ()

  needs_image: bool = True
  label_smoothing: float = 0.0

  def __post_init__(self):
    _check_smoothing(self.label_smoothing)

  def count(self, batch: Batch) -> Array:
    """Number of questions."""
    return self._make_mask(batch).sum(dtype=jnp.float32)

  def __call__(
    self,
    outputs: Outputs,
    batch: Batch,
    *,
    apply: Callable[..., Outputs],
    rng: Array,
    axis_name: AxisNames | None = None,
  ) -> tuple[Array, Metrics]:
    """The loss, and `accuracy` as a metric."""
    del apply, rng, axis_name
    loss, accuracy, items = mean_cross_entropy(
      presence.get_output(outputs, 'answer_logits'),
      jnp.maximum(batch['label'], 0),
      self._make_mask(batch),  # [B] or [B, n]
      self.label_smoothing,
    )
    return loss, {'accuracy': accuracy, 'items': items}

  def _make_mask(self, batch: Batch) -> Array:
    image = ('image',) if self.needs_image else ()
    return presence.joint_mask(batch, 'question', *image) & (
      batch['label'] >= 0
    )
