"""Evaluates what a model makes of a text of each record."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from mmjax.data import batches as batching
from mmjax.data import contact_sheet, preprocess, sources
from mmjax.errors import ConfigError
from mmjax.evaluators import spread
from mmjax.types import Batch, Params

# (params, batch) -> arrays.
Make = Callable[[Params, Batch], Any]
SHOWN = 24


class Generated:
  """Base of evaluators of what a model makes of texts.

  A subclass yields its numbers in `run`, and sets `_cells`.
  """

  _word: ClassVar[str]  # What is made, in the plural.
  _right_means: ClassVar[str]

  def __init__(
    self,
    make: Make,
    make_without: Make | None,
    source: sources.Source,
    preprocessor: preprocess.Preprocessor,
    *,
    feature: str,
    condition: str,
    batch_size: int,
    num_examples: int = 0,
    holds: Callable[..., bool] | None = None,
    name: str,
  ):
    """Sets the evaluation up; nothing is computed yet.

    Args:
      make: predict function of the texts, with guidance.
      make_without: the same with guidance 0; None for a model that can't.
      source: records with what is made and texts.
      preprocessor: preprocessor that makes both.
      feature: feature that is made.
      condition: text feature that says what should be there.
      batch_size: number of examples at a time.
      num_examples: number of records to use, the first ones; 0 for all.
      holds: (value, text) -> whether what is made has what a text says; None
        for no such numbers.
      name: prefix of the metrics' names.
    """
    jit = lambda f: f and spread.jit_over_mesh(f, preprocessor.make_inputs)
    self._makes = [jit(make), jit(make_without)]
    self._source, self._preprocess = source, preprocessor
    self._feature, self._condition = feature, condition
    self._batch_size = batch_size
    self._num = min(num_examples or len(source), len(source))
    self._holds, self._name = holds, name
    self._cells: list[contact_sheet.Cell] = []

  def render(self) -> Image.Image | None:
    """What was made, with its texts."""
    if not self._cells:
      return None
    suffix = f' (green: {self._right_means})' if self._holds else ''
    title = f'{self._name}: {self._word} of texts{suffix}'
    return contact_sheet.render(self._cells, title=title)

  def _generate(
    self, params: Params, inputs: Sequence[str], needs: Iterable[str]
  ) -> tuple[np.ndarray, np.ndarray | None, list[sources.Record]]:
    """What is made of the records that have all that is compared.

    Args:
      params: the model's.
      inputs: the features of which it is made.
      needs: further features that a record must have.

    Returns:
      What is made with and without the texts [N, ...], the latter None for a
      model that can't; and the N records.

    Raises:
      ConfigError: if there are no such records.
    """
    keys = [
      key for name in inputs for key in self._preprocess[name].list_keys()
    ]
    rows: list[list[np.ndarray]] = [[], []]
    masks = []
    with batching.iterate_eval(
      self._source, self._preprocess, self._batch_size, num_examples=self._num
    ) as ahead:
      for batch in ahead:
        arrays = {key: batch[key] for key in keys}
        arrays['seed'] = np.asarray(batch['index'], np.int32)
        for out, make in zip(rows, self._makes, strict=True):
          if make is not None:
            out.append(np.asarray(make(params, arrays)))
        mask = batch['mask']
        for name in {self._feature, self._condition, *needs}:
          known = batch[f'{name}_mask']
          mask = mask & known.reshape(len(mask), -1).any(axis=1)
        masks.append(mask)
    having = np.flatnonzero(np.concatenate(masks))
    if not len(having):
      raise ConfigError(
        f'none of {self._num} records has both {self._feature!r} and '
        f'{self._condition!r}, to compare {self._word} with'
      )
    made, without = (
      np.concatenate(out)[having] if out else None for out in rows
    )
    return made, without, [self._source[int(i)] for i in having]

  def _describe(
    self, name: str, records: Sequence[sources.Record]
  ) -> list[str]:
    """The first text of each record."""
    feature = self._preprocess[name]
    return [feature.list_evaluation_texts(record)[0] for record in records]

  def _check(
    self,
    texts: Sequence[str],
    made: Sequence[np.ndarray],
    without: Sequence[np.ndarray] | None,
    true: Sequence[np.ndarray],
  ) -> Iterator[tuple[str, float]]:
    """Yields (name, fraction of values in which their text holds)."""
    if self._holds is None:
      return
    sets = {'right': made, 'unconditional': without, 'true': true}
    for name, values in sets.items():
      if values is not None:
        held = [self._holds(*pair) for pair in zip(values, texts, strict=True)]
        yield f'{self._name}/{name}', float(np.mean(held))

  def _keep(
    self,
    images: Sequence[np.ndarray],
    texts: Sequence[str],
    made: Sequence[np.ndarray],
  ) -> None:
    """Keeps images of the first of what was made, for `render`."""
    self._cells = []
    for image, text, value in zip(images, texts, made, strict=False):
      color = contact_sheet.QUIET
      if self._holds is not None:
        is_right = self._holds(value, text)
        color = contact_sheet.RIGHT if is_right else contact_sheet.WRONG
      self._cells.append((image, [(text, color)]))
