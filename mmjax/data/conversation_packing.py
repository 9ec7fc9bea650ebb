"""Several conversations in one row, so that few tokens are padding.

Their images share a row too, of as many as the feature of images has room for,
and so do their videos.

Conversations don't attend to each other, and each counts its positions from 0,
so that loss and gradients are those of a row for each. Which ones share a row
depends on the records and the seed alone; rows then take the place of records,
in an order by seed and number as for any training data.
"""

import bisect
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmjax.data import features, mixtures, preprocess, sources
from mmjax.errors import ConfigError

# Rows that are tried, the fullest first, where images leave no room for more.
_MOST_TRIED = 256


def fill_rows(
  lengths: Sequence[int],
  length: int,
  seed: int,
  media: Sequence[Sequence[int]] = (),
  capacities: Sequence[int] = (),
) -> list[tuple[int, ...]]:
  """Puts texts into rows, the longest first, each into the fullest that fits.

  This is best fit decreasing (Johnson et al. 1974).
  With rows of 10:

    lengths  6 5 4 3 2     rows  6 4 | 5 3 2

  Args:
    lengths: number of tokens of each text, at most `length`.
    length: number of tokens of a row.
    seed: seed of the order of equally long texts.
    media: what the images of each text take of a row, and its videos, at most
      `capacities`; () if there are none.
    capacities: what a row has room for of each.

  Returns:
    The numbers of the texts in each row.
  """
  shuffled = np.random.default_rng(seed).permutation(len(lengths))
  by_length = sorted(map(int, shuffled), key=lambda i: -lengths[i])
  rows: list[list[int]] = []
  free: list[list[int]] = []  # Of each of `capacities`, by row.
  free_lengths: list[tuple[int, int]] = []  # What is free in each row, sorted.
  for text in by_length:
    own = media[text] if media else ()
    first = bisect.bisect_left(free_lengths, (lengths[text], -1))
    tried = range(first, min(len(free_lengths), first + _MOST_TRIED))
    at = next((i for i in tried if _fits(own, free[free_lengths[i][1]])), None)
    if at is None:
      left, row = length, len(rows)
      rows.append([])
      free.append([*capacities])
    else:
      left, row = free_lengths.pop(at)
    rows[row].append(text)
    free[row] = [a - b for a, b in zip(free[row], own, strict=False)]
    bisect.insort(free_lengths, (left - lengths[text], row))
  return [tuple(row) for row in rows]


def _fits(numbers: Sequence[int], capacities: Sequence[int]) -> bool:
  return all(a <= b for a, b in zip(numbers, capacities, strict=False))


class PackedSource(sources.Source):
  """Rows of records: {'id': ..., 'parts': the records of a row}.

  Attributes:
    rows: indices of the records in each row.
  """

  def __init__(self, source: sources.Source, rows: Sequence[tuple[int, ...]]):
    self._source, self.rows = source, list(rows)
    self.folder, self.kinds = source.folder, source.kinds

  def __len__(self) -> int:
    return len(self.rows)

  def read(self, index: int) -> dict[str, Any]:
    parts = [self._source[record] for record in self.rows[index]]
    return {'id': ' and '.join(part['id'] for part in parts), 'parts': parts}


@dataclasses.dataclass(frozen=True)
class PackedPreprocessor:
  """Makes the arrays of a row, of those of its conversations.

  The row of two conversations of three and two tokens, where T is 6:

    ids        a b c d e 0      segments   1 1 1 2 2 0
    mask       1 1 1 1 1 .      positions  0 1 2 0 1 0

  Each feature joins its arrays (`Feature.join`).

  Attributes:
    preprocessor: makes the arrays of one conversation.
  """

  preprocessor: preprocess.Preprocessor

  def __call__(
    self, record: Mapping[str, Any], rng: np.random.Generator | None = None
  ) -> features.Example:
    parts = [self.preprocessor(part, rng) for part in record['parts']]
    out: features.Example = {}
    for feature in self.preprocessor.features.values():
      out |= feature.join(parts)
    return out


def pack(
  source: sources.Source, preprocessor: preprocess.Preprocessor, seed: int
) -> tuple[sources.Source, Any]:
  """Packs training records, if a feature of conversations says so.

  Every conversation is tokenised once to measure it; of images whose size
  matters, the header is read.

  Args:
    source: training records.
    preprocessor: makes their arrays.
    seed: seed of which ones share a row.

  Returns:
    What is read, and what makes its arrays: rows, or the two as they came.

  Raises:
    ConfigError: if other features or several data sets are packed.
  """
  packed = [
    feature
    for feature in preprocessor.features.values()
    if isinstance(feature, features.Turns) and feature.packed
  ]
  if not packed:
    return source, preprocessor
  (feature,) = packed[:1]
  known = (feature.name, *feature.media_names)
  others = [name for name in preprocessor.features if name not in known]
  if others:
    feature.refuse(
      'packed',
      'packs conversations and their images alone, but there is also '
      f'{others[0]!r}',
    )
  if isinstance(source, mixtures.Mixture):
    feature.refuse('packed', 'packs one data set, but data.mixture has several')
  sizes = [_measure(source, index, feature) for index in range(len(source))]
  lengths, media = map(list, zip(*sizes, strict=True))
  rows = fill_rows(lengths, feature.length, seed, media, feature.media_rooms)
  return PackedSource(source, rows), PackedPreprocessor(preprocessor)


def _measure(
  source: sources.Source, index: int, feature: features.Turns
) -> tuple[int, tuple[int, ...]]:
  """Number of tokens, and what its images and videos take of a row.

  What can't be read has a row of its own.
  """
  read = source.read if feature.media_names else source.read_small
  whole = feature.length, feature.media_rooms
  try:
    value = feature.choose(read(index), None)
    ids, loss_mask = feature.encode(value) if value else ([], [])
  except ConfigError:
    return whole  # Training refuses it by itself, with its record.
  if feature.requires_answer and not any(loss_mask[1 : feature.length]):
    return whole
  used = feature.count_media(value or ())
  if not _fits(used, feature.media_rooms):
    return whole
  return min(len(ids), feature.length), used
