"""How a prediction suffers as a modality goes missing, or gets noisy."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.data import batches as batching
from mmjax.data import preprocess, sources
from mmjax.errors import ConfigError
from mmjax.types import Array, Batch, Params

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
NOISES = (0.0, 0.25, 0.5, 1.0, 2.0)


class Point(NamedTuple):
  """One point of a curve.

  Attributes:
    kind: 'absent' or 'noise'.
    modality: feature that is changed.
    amount: share of the examples that lack it, or the noise's size.
    accuracy: fraction of the examples whose class is predicted.
  """

  kind: str
  modality: str
  amount: float
  accuracy: float


def measure_curves(
  predict: Callable[[Params, Batch], Array],
  params: Params,
  source: sources.Source,
  preprocessor: preprocess.Preprocessor,
  *,
  target: str,
  inputs: Sequence[str],
  batch_size: int,
  shares: Sequence[float] = SHARES,
  noises: Sequence[float] = NOISES,
  num_examples: int = 0,
  seed: int = 0,
) -> list[Point]:
  """Measures the accuracy of a class as each modality is taken away.

  The examples that lack a modality at a share also lack it at larger ones.
  Noise of size s adds s standard deviations of the modality's real values in
  the batch to each of them; of a text or classes, each id is exchanged for that
  of another example with probability min(s, 1).

  Args:
    predict: function (params, batch) -> logits [B, C].
    params: parameters.
    source: records with the target.
    preprocessor: preprocessor that makes the features.
    target: feature that is predicted, of one class a record.
    inputs: features that the model reads.
    batch_size: number of examples at a time.
    shares: shares of the examples that lack the modality.
    noises: sizes of the noise.
    num_examples: number of records, from the first; 0 for all.
    seed: seed of what is drawn.

  Raises:
    ConfigError: for a target that is not one class a record, a share outside
      0..1, a negative noise, or if no record has a known class.
  """
  settings = _list_settings(preprocessor[target], inputs, shares, noises)
  run = _compile(predict, preprocessor, inputs)
  right, total = np.zeros(len(settings)), 0
  with batching.iterate_eval(
    source, preprocessor, batch_size, num_examples=num_examples
  ) as ahead:
    for number, batch in enumerate(ahead):
      key = jax.random.fold_in(jax.random.key(seed), number)
      known = _find_known(batch, target)
      total += known.sum()
      for i, (kind, name, amount) in enumerate(settings):
        own = jax.random.fold_in(key, inputs.index(name))
        logits = run(params, batch, own, amount, kind=kind, name=name)
        guesses = np.argmax(logits, axis=1)
        right[i] += np.sum((guesses == batch[target]) & known)
  if not total:
    raise ConfigError(f'no record has a known class {target!r}')
  return [
    Point(*setting, float(number / total))
    for setting, number in zip(settings, right, strict=True)
  ]


def _find_known(batch: Mapping[str, np.ndarray], target: str) -> np.ndarray:
  """Examples [B] with a class, without those that fill a batch up."""
  mask = batch[f'{target}_mask']
  return mask.reshape(len(mask), -1).any(axis=1) & batch['mask']


def _list_settings(
  feature: Any,
  inputs: Sequence[str],
  shares: Sequence[float],
  noises: Sequence[float],
) -> list[tuple[str, str, float]]:
  """Checks what is to be measured, and lists (kind, modality, amount)."""
  if feature.kind != 'category' or feature.multi_label:
    raise ConfigError(
      'curves are of the accuracy of one class a record, which '
      f'{feature.name!r} is not; use the target of such a class'
    )
  for share in shares:
    if not 0 <= share <= 1:
      raise ConfigError(f'share {share} of the examples is not in 0..1')
  for noise in noises:
    if noise < 0:
      raise ConfigError(f'noise {noise} is negative; use 0 for none')
  return [
    (kind, name, amount)
    for kind, amounts in (('absent', shares), ('noise', noises))
    for name in inputs
    for amount in amounts
  ]


def _compile(
  predict: Callable[[Params, Batch], Array],
  preprocessor: preprocess.Preprocessor,
  inputs: Sequence[str],
) -> Callable[..., Array]:
  """A compiled function (params, batch, key, amount, kind, name) -> logits."""

  def run(params, batch, key, amount, *, kind, name):
    keys = [k for n in inputs for k in preprocessor[n].list_keys()]
    read = {k: batch[k] for k in keys}
    if kind == 'absent':
      read = _remove(read, preprocessor[name].list_keys(), key, amount)
    made = preprocessor.make_inputs(read)
    if kind == 'noise':
      mask = made.get(f'{name}_mask')
      made = {**made, name: add_noise(made[name], mask, key, amount)}
    return predict(params, made)

  return jax.jit(run, static_argnames=('kind', 'name'))


def _remove(
  batch: Mapping[str, Array], keys: Sequence[str], key: Array, share: Array
) -> dict[str, Array]:
  """Sets the masks of some examples to False, as in an absent modality."""
  out = dict(batch)
  for name in keys:
    if name.endswith('_mask'):
      mask = jnp.asarray(batch[name])
      # Less than 1 always, so that a share of 1 removes all.
      lost = jax.random.uniform(key, mask.shape[:1]) < share
      out[name] = mask & ~lost.reshape(-1, *(1,) * (mask.ndim - 1))
  return out


def add_noise(
  values: Array, mask: Array | None, key: Array, amount: Array
) -> Array:
  """Adds noise to the values of a modality.

  Args:
    values: floats [B, ...], or ids [B, ...].
    mask: True where a value is real, over the first axes; None means
      everywhere.
    key: key of what is drawn.
    amount: standard deviations of the real values; of ids, the probability that
      one is exchanged for that of the same place in another example.
  """
  if mask is None:
    mask = jnp.ones(values.shape[:1], bool)
  if not jnp.issubdtype(values.dtype, jnp.floating):
    first, second = jax.random.split(key)
    order = jax.random.permutation(first, len(values))
    swapped = jax.random.uniform(second, values.shape) < amount
    return jnp.where(swapped, values[order], values)
  real = jnp.broadcast_to(
    mask.reshape(*mask.shape, *(1,) * (values.ndim - mask.ndim)), values.shape
  )
  number = jnp.maximum(real.sum(), 1)
  kept = jnp.where(real, values, 0)
  mean = kept.sum() / number
  deviation = jnp.sqrt(jnp.where(real, (values - mean) ** 2, 0).sum() / number)
  noise = jax.random.normal(key, values.shape, values.dtype)
  return jnp.where(real, values + amount * deviation * noise, values)


def format_curves(points: Sequence[Point]) -> str:
  """A table with a line for each curve."""
  curves: dict[tuple[str, str], list[Point]] = {}
  for point in points:
    curves.setdefault((point.kind, point.modality), []).append(point)
  lines, before = [], None
  for (kind, name), found in curves.items():
    if kind != before:
      amounts = '  '.join(f'{point.amount:5.2f}' for point in found)
      lines.append(f'{kind:16}  {amounts}')
    accuracies = '  '.join(f'{point.accuracy:.3f}' for point in found)
    lines.append(f'  {name:14}  {accuracies}')
    before = kind
  return '\n'.join(lines)
