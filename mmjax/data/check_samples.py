"""The sample of a split's records that checks of the data read."""

from collections.abc import Iterator

import numpy as np

from mmjax.data import mixtures, sources
from mmjax.errors import ConfigError

SAMPLE = 2_000


def choose(source: sources.Source) -> np.ndarray:
  """Returns the indices of the sample, spread evenly.

  Of a mixture, it is the samples of its sources.
  """
  if isinstance(source, mixtures.Mixture):
    samples = [
      indices.start + choose(part)
      for indices, part in zip(
        source.ranges, source.parts.values(), strict=True
      )
    ]
    return np.concatenate(samples)
  count = min(len(source), SAMPLE)
  return np.linspace(0, len(source) - 1, count).astype(np.int64)


def describe(source: sources.Source) -> str:
  """Describes the sample's size in words."""
  count = len(choose(source))
  if len(source) == count:
    return f'{count:,} records'
  return f'{count:,} of the {len(source):,} records'


def read(
  source: sources.Source,
) -> Iterator[tuple[int, sources.Record]]:
  """Yields the sample's small fields; `batches` reports unreadable records."""
  for index in map(int, choose(source)):
    try:
      record = source.read_small(index)
    except ConfigError:
      continue
    yield index, record


def read_whole(source: sources.Source, index: int) -> sources.Record | None:
  """Reads a whole record; None if it is unreadable."""
  try:
    return source.read(index)
  except ConfigError:
    return None
