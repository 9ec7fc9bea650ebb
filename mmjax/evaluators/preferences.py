"""Evaluates which of two answers a model finds better."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from mmjax import objectives
from mmjax.data import batches as batching
from mmjax.data import contact_sheet, preprocess, sources
from mmjax.errors import ConfigError
from mmjax.evaluators import inputs, spread
from mmjax.ops import tree_paths
from mmjax.types import Batch, Params, TaughtObjective


class Preferences:
  """Compares what a model finds better with what people preferred.

  Yields over pairs of answers `NAME/likelier`, the fraction whose preferred
  answer has the larger mean log-probability of a token. By the rewards of the
  loss, which may need a reference, it yields `NAME/accuracy`, the fraction
  whose preferred answer has the larger one, `NAME/margin`, the mean difference
  of both, and `NAME/loss`. `NAME/cut` is the fraction of pairs that are not
  measured, since an answer lies behind the largest length.
  """

  def __init__(
    self,
    scores: Callable[[Params, Batch], Any],
    source: sources.Source,
    preprocessor: preprocess.Preprocessor,
    *,
    objective: objectives.Preference,
    find_reference: Callable[[Params], Params] | None,
    batch_size: int,
    name: str,
    num_examples: int = 0,
  ):
    """Sets the evaluation up; nothing is computed yet.

    Args:
      scores: function of `mmjax.models.predict.make_answer_scores`.
      source: records with pairs.
      preprocessor: preprocessor that makes the features.
      objective: the loss.
      find_reference: from the parameters to those of the reference, the same
        ones at each call; None if there is none: then what needs a reference is
        not measured.
      batch_size: number of examples at a time.
      name: prefix of the metrics' names.
      num_examples: number of records to use, the first ones; 0 for all.
    """
    self._scores = spread.jit_over_mesh(scores, preprocessor.make_inputs)
    self._source, self._preprocessor = source, preprocessor
    self._objective = objective
    self._find_reference = find_reference
    self._batch_size, self._name = batch_size, name
    self._num = min(num_examples or len(source), len(source))
    self._reference: np.ndarray | None = None
    self._margins: np.ndarray | None = None

  def run(self, params: Params) -> Iterator[tuple[str, float]]:
    """Yields (name, value).

    Raises:
      ConfigError: if no record has two answers within the length.
    """
    sums = self._measure(params)  # [N, 4]
    pairs = (sums[:, 2:] > 0).all(axis=1)
    if not pairs.any():
      feature = self._preprocessor[self._objective.target]
      raise ConfigError(
        f'none of {self._num} records has two answers within '
        f'data.features.{feature.name}.length={feature.length}'
      )
    lengths = np.maximum(sums[:, 2:], 1)
    means = sums[:, :2] / lengths
    values = {'likelier': (means[:, 0] > means[:, 1])[pairs].mean()}
    self._margins = np.where(pairs, means[:, 0] - means[:, 1], np.nan)
    scores = self._compare(params, sums)
    if scores is not None:
      losses, chosen, rejected = (
        np.asarray(x)
        for x in self._objective.measure(
          *map(jnp.asarray, scores.T), tuple(map(jnp.asarray, lengths.T))
        )
      )
      self._margins = np.where(pairs, chosen - rejected, np.nan)
      values |= {
        'accuracy': (chosen > rejected)[pairs].mean(),
        'margin': (chosen - rejected)[pairs].mean(),
        'loss': losses[pairs].mean(),
      }
    values['cut'] = 1 - pairs.mean()
    for key, value in values.items():
      yield f'{self._name}/{key}', float(value)

  def render(self) -> Image.Image | None:
    """Pairs, with the difference of the answers' rewards."""
    if self._margins is None:
      return None
    cells = []
    measured = np.flatnonzero(np.isfinite(self._margins))
    step = max(1, len(measured) // inputs.NUM_DRAWN)
    for index in measured[::step][: inputs.NUM_DRAWN]:
      record = self._source[int(index)]
      drawing, lines = None, []
      for feature in self._preprocessor.features.values():
        value = feature.get(record)
        if value is not None:
          shown, texts = feature.render(value)
          drawing = shown if drawing is None else drawing
          lines += texts[:3]
      margin = float(self._margins[index])
      color = contact_sheet.RIGHT if margin > 0 else contact_sheet.WRONG
      cells.append((drawing, [*lines[:4], (f'margin {margin:.2f}', color)]))
    return contact_sheet.render(
      cells, title=f'{self._name} (green: the preferred is better)'
    )

  def _compare(self, params: Params, sums: np.ndarray) -> np.ndarray | None:
    """What the loss compares of both answers, [N, 2]; None if it can't."""
    if not isinstance(self._objective, TaughtObjective):
      return sums[:, :2]
    if self._find_reference is None:
      return None
    if self._reference is None:  # It never changes.
      own = self._find_reference(params)
      like = tree_paths.select_like(params, own)
      placed = jax.tree.map(
        lambda leaf, other: (
          jax.device_put(leaf, other.sharding)
          if isinstance(other, jax.Array)
          else leaf
        ),
        own,
        like,
      )
      self._reference = self._measure(placed)[:, :2]
    return sums[:, :2] - self._reference

  def _measure(self, params: Params) -> np.ndarray:
    """The sums [N, 4] of `make_answer_scores`."""
    out = np.zeros((self._num, 4))
    with batching.iterate_eval(
      self._source,
      self._preprocessor,
      self._batch_size,
      num_examples=self._num,
    ) as ahead:
      for batch in ahead:
        rows = self._scores(params, batch)
        kept = batch['mask']
        out[batch['index'][kept]] = rows[kept]
    return out
