"""Cross-entropy over a large vocabulary, in chunks of tokens."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mmjax.ops import attention
from mmjax.parallel import collectives, products, rules
from mmjax.parallel import mesh as mesh_lib
from mmjax.types import FactoredLogits

# Most logits that a device holds at once. Fewer are computed as a whole.
CHUNK = 2**25


def multiply(factors: FactoredLogits) -> Float[Array, '... V']:
  """Logits [..., T, V] in float32."""
  logits = products.project(factors.vectors, factors.kernel)
  leading = (None,) * (logits.ndim - 3)
  logits = rules.constrain(logits, 'batch', *leading, 'length', 'vocab')
  logits = logits.astype(jnp.float32)  # [..., T, V]
  if factors.bias is not None:
    logits += jnp.expand_dims(factors.bias, range(logits.ndim - 1))
  return attention.cap_softly(logits, factors.softcap)


def fits(factors: FactoredLogits) -> bool:
  """Whether a device can hold all logits: at most `CHUNK`."""
  *leading, length, _ = factors.vectors.shape
  examples, classes = math.prod(leading), factors.kernel.shape[1]
  split = _find_split(examples, classes)
  shards = collectives.num_shards(split.tokens + split.vocabulary)
  return examples * length * classes <= CHUNK * shards


def mean_cross_entropy(
  factors: FactoredLogits,
  labels: Int[Array, '*B T'],
  mask: Bool[Array, '*B T'],
  label_smoothing: float = 0.0,
) -> tuple[Float[Array, ''], Float[Array, '*B T'], Bool[Array, '*B T']]:
  """Mean cross-entropy where `mask` is True, without ever holding all logits.

  A scan over chunks of tokens computes the logits of one chunk at a time and,
  where there is a gradient, right away their part of it (Hsu et al. 2024, Liger
  Kernel, section 3.2), so nothing is computed twice. Under a mesh, each device
  has chunks of its own tokens, and the part of the vocabulary that the axis
  `tensor` gives it; gradients by the matrix are added up once, at the end.

  Args:
    factors: vectors [..., T, D], whose product with the matrix [D, V] are the
      logits.
    labels: integers [..., T] in [0, V).
    mask: [..., T], True for the tokens that count. The vectors of others may be
      anything.
    label_smoothing: fraction of the target that is spread over all V classes.

  Returns:
    The mean, 0 without any token; and of each token, without gradients, its
    cross-entropy and whether the label has the highest logit, the first of
    equal ones.
  """
  weights = mask / jnp.maximum(mask.sum(), 1).astype(jnp.float32)
  split, tokens, restore = _arrange(factors, labels, mask, weights)
  vectors, labels, weights = tokens
  mean, losses, right = _mean(
    (split, label_smoothing, factors.kernel.shape[1], factors.softcap),
    vectors,
    factors.kernel,
    factors.bias,
    labels,
    weights,
  )
  return mean, *jax.lax.stop_gradient((restore(losses), restore(right)))


def cross_entropies(
  factors: FactoredLogits,
  labels: Int[Array, '*B T'],
  mask: Bool[Array, '*B T'],
) -> Float[Array, '*B T']:
  """Cross-entropy of each masked token, without ever holding all logits.

  Those of `mean_cross_entropy` have no gradient; these have any that a loss of
  them gives, and the logits are computed once more for it.

  Args:
    factors: factors, as in `mean_cross_entropy`.
    labels: integers [..., T] in [0, V).
    mask: [..., T], True for the tokens that count. The vectors of others may be
      anything.

  Returns:
    The cross-entropies [..., T] in float32, 0 where `mask` is False.
  """
  split, tokens, restore = _arrange(factors, labels, mask, mask)
  vectors, labels, _ = tokens
  losses = _each(
    (split, 0.0, factors.kernel.shape[1], factors.softcap),
    vectors,
    factors.kernel,
    factors.bias,
    labels,
  )
  return jnp.where(mask, restore(losses), 0.0)


def _arrange(factors, labels, mask, weights):
  """The tokens as [B, T] with a T that devices divide, and the way back."""
  shape = labels.shape
  vectors = jnp.where(mask[..., None], factors.vectors, 0)
  vectors = vectors.reshape(-1, *vectors.shape[-2:])  # [B, T, D]
  labels, weights = (x.reshape(vectors.shape[:-1]) for x in (labels, weights))
  split = _find_split(len(vectors), factors.kernel.shape[1])
  padding = -shape[-1] % split.length_shards
  pad = lambda x: jnp.pad(x, [(0, 0), (0, padding)] + [(0, 0)] * (x.ndim - 2))
  restore = lambda x: x[:, : shape[-1]].reshape(shape)
  return split, tuple(map(pad, (vectors, labels, weights))), restore


class _Split(NamedTuple):
  """Mesh axes that split arrays between devices, () for none.

  Attributes:
    batch: axes that split examples.
    length: axes that split tokens.
    vocabulary: axes that split the vocabulary.
    length_shards: number of parts of tokens.
  """

  batch: tuple[str, ...]
  length: tuple[str, ...]
  vocabulary: tuple[str, ...]
  length_shards: int

  @property
  def tokens(self) -> tuple[str, ...]:
    return self.batch + self.length

  @property
  def specs(self) -> tuple[jax.P, jax.P]:
    """Shardings of tokens [B, T] and of the vocabulary [V]."""
    name = lambda axes: axes or None
    return (
      jax.P(name(self.batch), name(self.length)),
      jax.P(name(self.vocabulary)),
    )


def _find_split(examples: int, classes: int) -> _Split:
  length = collectives.automatic_axes(['sequence'])
  return _Split(
    collectives.dividing_axes(mesh_lib.BATCH_AXES, examples),
    length,
    collectives.dividing_axes(['tensor'], classes),
    collectives.num_shards(length),
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _mean(settings, vectors, kernel, bias, labels, weights):
  """Weighted sum of the losses [B, T], the losses, and which are right."""
  return _scan(settings, False, vectors, kernel, bias, labels, weights)[0]


def _forward(settings, vectors, kernel, bias, labels, weights):
  inputs = vectors, kernel, bias
  out, grads = _scan(settings, True, *inputs, labels, weights)
  return out, jax.tree.map(lambda x, like: x.astype(like.dtype), grads, inputs)


def _backward(settings, grads, grad):
  del settings
  scaled = jax.tree.map(lambda x: (grad[0] * x).astype(x.dtype), grads)
  return *scaled, None, None


_mean.defvjp(_forward, _backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _each(settings, vectors, kernel, bias, labels):
  """The losses [B, T]."""
  weights = jnp.zeros(labels.shape, jnp.float32)
  inputs = vectors, kernel, bias, labels, weights
  return _scan(settings, False, *inputs)[0][1]


def _forward_each(settings, *inputs):
  return _each(settings, *inputs), inputs


def _backward_each(settings, inputs, grad):
  """The gradient of their sum, in which each has its own as a weight."""
  *factors, labels = inputs
  _, grads = _scan(settings, True, *factors, labels, grad)
  cast = lambda x, like: x.astype(like.dtype)
  return *jax.tree.map(cast, tuple(grads), tuple(factors)), None


_each.defvjp(_forward_each, _backward_each)


def _scan(settings, differentiate, vectors, kernel, bias, labels, weights):
  """Runs `_scan_local` on each device."""
  split, *_ = settings
  run = functools.partial(_scan_local, settings, differentiate)
  if not (split.tokens or split.vocabulary):
    return run(vectors, kernel, bias, labels, weights)
  tokens, vocabulary = split.specs
  of_kernel = jax.P(None, *vocabulary)
  of_bias = None if bias is None else vocabulary
  return collectives.on_each_device(
    run,
    in_specs=(tokens, of_kernel, of_bias, tokens, tokens),
    out_specs=(
      (jax.P(), tokens, tokens),
      (tokens, of_kernel, of_bias) if differentiate else None,
    ),
  )(vectors, kernel, bias, labels, weights)


def _scan_local(settings, differentiate, vectors, kernel, bias, *tokens):
  """Losses and their gradients of one device's tokens [b, t]."""
  split, smoothing, vocab_size, softcap = settings
  shape = vectors.shape[:2]
  number = math.prod(shape)
  chunks = -(-number * kernel.shape[1] // CHUNK)
  size = -(-number // chunks)

  def cut(x):
    x = x.reshape(number, *x.shape[2:])
    widths = [(0, size * chunks - number)] + [(0, 0)] * (x.ndim - 1)
    return jnp.pad(x, widths).reshape(chunks, size, *x.shape[1:])

  def visit(sums, chunk):
    x, labels, weights = chunk
    logits = (x @ kernel).astype(jnp.float32)  # [c, v]
    logits = logits if bias is None else logits + bias[None]
    logits = attention.cap_softly(logits, softcap)
    losses, right, logit_grad = _measure(
      logits, labels, smoothing, vocab_size, split.vocabulary
    )
    total = sums[0] + jnp.vdot(weights, losses)
    if not differentiate:
      return (total,), (losses, right)
    logit_grad = weights[:, None] * logit_grad
    if softcap is not None:
      logit_grad *= 1 - (logits / softcap) ** 2
    if bias is not None:
      bias_grad = sums[2] + logit_grad.sum(axis=0)
    logit_grad = logit_grad.astype(x.dtype)
    kernel_grad = sums[1] + jnp.einsum(
      'cd,cv->dv', x, logit_grad, preferred_element_type=jnp.float32
    )
    x_grad = logit_grad @ kernel.T
    if split.vocabulary:
      x_grad = jax.lax.psum(x_grad, split.vocabulary)
    sums = total, kernel_grad, None if bias is None else bias_grad
    return sums, (losses, right, x_grad)

  zeros = lambda x: None if x is None else jnp.zeros(x.shape, jnp.float32)
  sums = jnp.zeros(()), zeros(kernel), zeros(bias)
  sums, of_tokens = jax.lax.scan(
    visit,
    sums if differentiate else sums[:1],
    tuple(map(cut, (vectors, *tokens))),
  )
  if split.tokens:
    sums = jax.lax.psum(sums, split.tokens)
  join = lambda x: x.reshape(-1, *x.shape[2:])[:number].reshape(
    *shape, *x.shape[2:]
  )
  losses, right, *vector_grad = map(join, of_tokens)
  grads = (*vector_grad, *sums[1:]) if differentiate else None
  return (sums[0], losses, right), grads


def _measure(logits, labels, smoothing, vocab_size, axes):
  """Losses [c], which are right, and the losses' gradients by logits [c, v].

  Args:
    logits: [c, v] float32, of all V classes or one device's.
    labels: [c].
    smoothing: fraction of the target that is spread over the classes.
    vocab_size: V.
    axes: mesh axes that split the vocabulary.
  """
  add = (lambda x: jax.lax.psum(x, axes)) if axes else lambda x: x
  classes = jnp.arange(logits.shape[1])  # [v]
  if axes:
    classes += jax.lax.axis_index(axes) * logits.shape[1]
  best = jnp.argmax(logits, axis=1)
  highest = logits.max(axis=1)
  if axes:
    own, highest = highest, jax.lax.pmax(highest, axes)
    best = jnp.where(own == highest, classes[0] + best, vocab_size)
    best = jax.lax.pmin(best, axes)
  logits = logits - highest[:, None]
  is_label = classes[None] == labels[:, None]  # [c, v]
  of_label = add(jnp.where(is_label, logits, 0.0).sum(axis=1))
  weights = jnp.exp(logits)
  total = add(weights.sum(axis=1))
  losses = jnp.log(total) - (1 - smoothing) * of_label
  target = jnp.where(is_label, 1.0 - smoothing, 0.0)
  if smoothing:
    losses -= smoothing * add(logits.sum(axis=1)) / vocab_size
    target += smoothing / vocab_size
  return losses, best == labels, weights / total[:, None] - target
