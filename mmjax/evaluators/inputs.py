"""Predicts a target from all input features, and from some of them."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from mmjax.data import batches as batching
from mmjax.data import contact_sheet, features, preprocess, sources
from mmjax.errors import ConfigError
from mmjax.evaluators import spread
from mmjax.types import Batch, Params

Subset = tuple[str, ...]
# Largest number of inputs of which all subsets are measured.
MAX_INPUTS = 4
# Number of records that are drawn.
NUM_DRAWN = 24


@dataclasses.dataclass(frozen=True)
class Predictions:
  """What a model predicts of the records that have a target.

  Attributes:
    outputs: arrays [B, ...] from all inputs.
    by_subset: the same from some of the inputs, the others masked.
    truth: the target's array [B, ...].
    records: indices [B] of the records.
  """

  outputs: np.ndarray
  by_subset: Mapping[Subset, np.ndarray]
  truth: np.ndarray
  records: np.ndarray


class InputsEvaluator:
  """Compares a target that is predicted from input features with the true one.

  Subclasses yield numbers in `run`, from `self._predict_subsets(params)`, and
  say in `_compare` what is drawn beside the inputs of a record.
  """

  def __init__(
    self,
    predict: Callable[[Params, Batch], Any],
    source: sources.Source,
    preprocessor: preprocess.Preprocessor,
    *,
    target: str,
    inputs: Sequence[str],
    batch_size: int,
    name: str,
    num_examples: int = 0,
  ):
    """Sets the evaluation up; nothing is computed yet.

    Args:
      predict: function (params, batch) -> array; the class says which.
      source: records with the target.
      preprocessor: preprocessor that makes the features.
      target: feature that is predicted.
      inputs: features that the model reads.
      batch_size: number of examples at a time.
      name: prefix of the metrics' names.
      num_examples: number of records to use, the first ones; 0 for all.
    """
    self._predict = spread.jit_over_mesh(predict, preprocessor.make_inputs)
    self._source, self._preprocessor = source, preprocessor
    self._feature = preprocessor[target]
    self._target, self._inputs = target, tuple(inputs)
    self._batch_size, self._name = batch_size, name
    self._num = min(num_examples or len(source), len(source))
    self._predictions: Predictions | None = None

  def run(self, params: Params) -> Iterator[tuple[str, float]]:
    """Yields (name, value), over the records that have the target.

    Raises:
      ConfigError: if there are none.
    """
    raise NotImplementedError

  def render(self) -> Image.Image | None:
    """Records with their true and predicted targets."""
    if self._predictions is None:
      return None
    cells = []
    records = self._predictions.records
    step = max(1, len(records) // NUM_DRAWN)
    for i in range(0, len(records), step)[:NUM_DRAWN]:
      drawing, lines = render(
        self._source[int(records[i])],
        [self._preprocessor[name] for name in self._inputs],
      )
      cells.append((drawing, [*lines[:2], *self._compare(i)]))
    return contact_sheet.render(cells, title=f'{self._name}: {self._title}')

  @property
  def _title(self) -> str:
    return f'predicted {self._target}'

  def _compare(self, i: int) -> list[contact_sheet.Line]:
    """Lines with the true and the predicted target of prediction `i`."""
    raise NotImplementedError

  def _predict_subsets(self, params: Params) -> Predictions:
    self._predictions = predict_subsets(
      self._predict,
      params,
      self._source,
      self._preprocessor,
      target=self._target,
      inputs=self._inputs,
      batch_size=self._batch_size,
      num_examples=self._num,
    )
    return self._predictions


def predict_subsets(
  function: Callable[[Params, Batch], np.ndarray],
  params: Params,
  source: sources.Source,
  preprocessor: preprocess.Preprocessor,
  *,
  target: str,
  inputs: Sequence[str],
  batch_size: int,
  num_examples: int,
) -> Predictions:
  """Predicts a target of records from all inputs, and from each subset.

  Args:
    function: function (params, batch) -> array [B, ...].
    params: parameters.
    source: records.
    preprocessor: preprocessor that makes the features.
    target: feature that is predicted.
    inputs: features that the model reads.
    batch_size: number of examples at a time.
    num_examples: number of records, from the first.

  Raises:
    ConfigError: if no record has the target.
  """
  subsets = _list_subsets(inputs)
  rows: dict[Subset, list] = {tuple(inputs): [], **{s: [] for s in subsets}}
  truth, masks = [], []
  with batching.iterate_eval(
    source, preprocessor, batch_size, num_examples=num_examples
  ) as ahead:
    for batch in ahead:
      truth.append(batch[target])
      mask = batch[f'{target}_mask']
      masks.append(mask.reshape(len(mask), -1).any(axis=1) & batch['mask'])
      for chosen, outputs in rows.items():
        arrays = _select(batch, preprocessor, inputs, chosen)
        outputs.append(function(params, arrays))
  having = np.flatnonzero(np.concatenate(masks))
  if not len(having):
    raise ConfigError(
      f'none of {num_examples} records has {preprocessor[target].word} '
      f'{target!r} that is known from training, to compare with'
    )
  by_subset = {
    chosen: np.concatenate(outputs)[having] for chosen, outputs in rows.items()
  }
  return Predictions(
    outputs=by_subset.pop(tuple(inputs)),
    by_subset=by_subset,
    truth=np.concatenate(truth)[having],
    records=having,
  )


def _list_subsets(inputs: Sequence[str]) -> list[Subset]:
  """Lists the proper subsets; of many inputs, single ones and all but one."""
  sizes = range(1, len(inputs))
  if len(inputs) > MAX_INPUTS:
    sizes = (1, len(inputs) - 1)
  return [
    chosen for size in sizes for chosen in itertools.combinations(inputs, size)
  ]


def _select(
  batch: Batch,
  preprocessor: preprocess.Preprocessor,
  inputs: Sequence[str],
  chosen: Sequence[str],
) -> dict[str, np.ndarray]:
  """Arrays of the inputs, with masks that are False for those not chosen."""
  arrays = {}
  for name in inputs:
    for key in preprocessor[name].list_keys():
      array = batch[key]
      if name not in chosen and key.endswith('_mask'):
        array = np.zeros_like(array)
      arrays[key] = array
  return arrays


def render(
  record: sources.Record, inputs: Sequence[features.Feature]
) -> tuple[np.ndarray | None, list[contact_sheet.Line]]:
  """Draws the inputs of a record: the first that has an image, and lines."""
  drawing, lines = None, []
  for feature in inputs:
    value = feature.get(record)
    if value is None:
      continue
    shown, texts = feature.render(value)
    drawing = shown if drawing is None else drawing
    lines += texts[:1]
  return drawing, lines
