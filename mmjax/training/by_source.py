"""Metrics of each source of a mixture, from the losses of single items."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from mmjax.types import Array, Items, Metrics

# Begins the names of sums that are not divided yet.
_SUMS = '@items/'


def add_items(
  items: Items | None, source_index: Array, task: str, number: int
) -> Metrics:
  """Adds up the losses of a task by source.

  Args:
    items: the losses that the objective gave; None if it gave none.
    source_index: number of each example's source, int32 [B].
    task: name of the task.
    number: S, number of sources.

  Returns:
    Sums of losses and numbers of items, float32 [2, S], by a name that
    `take_means` knows; they may be added over parts of a batch. Empty without
    items.
  """
  if items is None:
    return {}
  losses = jnp.where(items.mask, items.losses.astype(jnp.float32), 0.0)
  of_examples = jnp.stack(
    [x.reshape(len(x), -1).sum(1) for x in (losses, items.mask)]
  )  # [2, B]
  chosen = jax.nn.one_hot(source_index, number, dtype=bool)  # [B, S]
  sums = jnp.where(chosen[None], of_examples[:, :, None], 0.0).sum(1)  # [2, S]
  return {_SUMS + task: sums}


def take_means(metrics: Metrics, sources: Sequence[str]) -> Metrics:
  """Replaces sums of the whole batch by `loss/TASK/SOURCE` and `count/...`.

  The mean of a source without items is 0.
  """
  out = {k: v for k, v in metrics.items() if not k.startswith(_SUMS)}
  for name in metrics.keys() - out.keys():
    task = name.removeprefix(_SUMS)
    for source, (loss, count) in zip(sources, metrics[name].T, strict=True):
      out[f'loss/{task}/{source}'] = loss / jnp.maximum(count, 1.0)
      out[f'count/{task}/{source}'] = count
  return out


def count_examples(source_index: Array, sources: Sequence[str]) -> Metrics:
  """Number of examples of each source, `examples/SOURCE`.

  Args:
    source_index: number of each example's source, int32 [B].
    sources: names of the sources.
  """
  return {
    f'examples/{source}': (source_index == number).sum()
    for number, source in enumerate(sources)
  }


def drop_empty(values: Mapping[str, float]) -> dict[str, float]:
  """Leaves out the losses of sources that had no item in the batch.

  >>> drop_empty({'loss/vqa/emoji': 0.0, 'count/vqa/emoji': 0.0})
  {'count/vqa/emoji': 0.0}
  """
  return {
    name: value
    for name, value in values.items()
    if not name.startswith('loss/')
    or values.get(f'count/{name.removeprefix("loss/")}', 1)
    or name.count('/') < 2
  }
