"""What a model makes of a text of each record, for evaluation."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from mmjax.data import batches as batching
from mmjax.data import preprocess, sources
from mmjax.types import Batch, Params

# (params, batch) -> arrays.
Make = Callable[[Params, Batch], Any]


def generate(
  makes: Sequence[Make | None],
  params: Params,
  source: sources.Source,
  preprocessor: preprocess.Preprocessor,
  *,
  keys: Sequence[str],
  needs: Iterable[str],
  batch_size: int,
  number: int,
) -> tuple[list[np.ndarray | None], list[int]]:
  """Runs functions on the records that have all that is compared.

  Args:
    makes: functions of the arrays, and of `seed` [B], the records' indices;
      None for none.
    params: the model's.
    source: records.
    preprocessor: preprocessor that makes the arrays.
    keys: the arrays.
    needs: features that a record must have.
    batch_size: number of examples at a time.
    number: number of records to use, the first ones.

  Returns:
    What each function made [N, ...], None for None; and the N records' indices.
  """
  rows: list[list[np.ndarray]] = [[] for _ in makes]
  masks = []
  with batching.iterate_eval(
    source, preprocessor, batch_size, num_examples=number
  ) as ahead:
    for batch in ahead:
      arrays = {key: batch[key] for key in keys}
      arrays['seed'] = np.asarray(batch['index'], np.int32)
      for out, make in zip(rows, makes, strict=True):
        if make is not None:
          out.append(np.asarray(make(params, arrays)))
      mask = batch['mask']
      for name in needs:
        known = batch[f'{name}_mask']
        mask = mask & known.reshape(len(mask), -1).any(axis=1)
      masks.append(mask)
  having = np.flatnonzero(np.concatenate(masks))
  made = [np.concatenate(out)[having] if out else None for out in rows]
  return made, [int(i) for i in having]
