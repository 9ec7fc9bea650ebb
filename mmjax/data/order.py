"""The order in which training reads records."""

import dataclasses
import math
import sys
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epy

from mmjax.data import mixtures

with epy.lazy_imports():  # Slow to import.
  import grain


@dataclasses.dataclass(frozen=True)
class _Order:
  """Indices of a mixture's records in the order of training."""

  orders: 'Sequence[grain.MapDataset]'  # Endless; by source, its own indices.
  starts: Sequence[int]  # Index of each source's first record.
  weights: Sequence[int]

  def __len__(self) -> int:
    return sys.maxsize

  def __getitem__(self, position: int) -> int:
    number, earlier = mixtures.choose_part(position, self.weights)
    return self.starts[number] + self.orders[number][earlier]


def make_order(source: Sequence[Any], seed: int) -> 'grain.MapDataset':
  """Makes the endless order of training: indices of records.

  Every source is shuffled by itself and repeated as often as needed, each epoch
  in its own order.

  Args:
    source: records by index; a `Mixture` is mixed by its weights.
    seed: random seed.
  """
  if not isinstance(source, mixtures.Mixture):
    return grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat()
  shares = source.list_shares()
  scale = math.lcm(*(share.denominator for share in shares))
  orders = [
    grain.MapDataset.range(len(part)).seed(_fold(seed, name)).shuffle().repeat()
    for name, part in source.parts.items()
  ]
  return grain.MapDataset.source(
    _Order(
      orders,
      [indices.start for indices in source.ranges],
      [int(share * scale) for share in shares],
    )
  ).seed(seed)


def _fold(seed: int, name: str) -> int:
  """A seed of a source, whatever the other sources are."""
  sequence = np.random.SeedSequence((seed, zlib.crc32(name.encode())))
  return int(sequence.generate_state(1)[0])
