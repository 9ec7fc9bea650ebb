"""Mixtures: several sources whose examples are drawn by weight.

The n-th example of the training stream depends only on the seed and n, as with
one source, so a mixture resumes exactly and is the same on any number of hosts.
"""

import fractions
import numbers
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mmjax.data import sources


def list_sections(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
  """Makes a `data` section of each source of a config's mixture.

  Args:
    data: the `data` section of a config, with a mixture.

  Returns:
    By name of the source, in alphabetical order, the section with the settings
    that the source has of its own, and its `weight`.
  """
  shared = {name: data[name] for name in data if name != 'mixture'}
  return {
    name: {
      **shared,
      'weight': 1.0,
      **{key: value for key, value in own.items() if value is not None},
    }
    for name, own in sorted(data['mixture'].items())
    if own is not None
  }


class Mixture(sources.Source):
  """The records of several sources, one source after the other.

  What is learnt from the records (classes, answers, means) is learnt from all
  of them, once each; weights matter for the order of training alone.

  Attributes:
    parts: source by name.
    weights: weight by name.
    ranges: the indices of each source's records, in the order of `parts`.
  """

  def __init__(
    self,
    parts: Mapping[str, sources.Source],
    weights: Mapping[str, float],
  ):
    self.parts = dict(parts)
    self.weights = {name: weights[name] for name in parts}
    self._ends = np.cumsum([len(part) for part in parts.values()])
    ends = [0, *map(int, self._ends)]
    self.ranges = tuple(map(range, ends[:-1], ends[1:]))
    self.kinds = {
      field: kind
      for part in parts.values()
      for field, kind in part.kinds.items()
    }
    self.complete = frozenset.intersection(
      *(frozenset(part.complete) for part in parts.values())
    )

  def __len__(self) -> int:
    return int(self._ends[-1])

  def read(self, index: int) -> sources.Record:
    part, position = self._find(index)
    return part.read(position)

  def read_small(self, index: int) -> sources.Record:
    part, position = self._find(index)
    return part.read_small(position)

  def count_answers(self, field: str = 'questions'):
    counts = [part.count_answers(field) for part in self.parts.values()]
    return sum(counts[1:], counts[0])

  def find_part(self, index: int) -> int:
    """Number of the source that holds a record."""
    return int(np.searchsorted(self._ends, index, side='right'))

  def list_shares(self) -> list[fractions.Fraction]:
    """The exact fraction of the examples that each source has."""
    # As decimals, as they are written: 0.1 is one tenth.
    exact = [fractions.Fraction(str(w)) for w in self.weights.values()]
    return [weight / sum(exact) for weight in exact]

  def _find(self, index: int) -> tuple[sources.Source, int]:
    number = self.find_part(index)
    part = list(self.parts.values())[number]
    return part, index - self.ranges[number].start


def choose_part(position: int, weights: Sequence[int]) -> tuple[int, int]:
  """Chooses the source of an example, and counts its earlier examples.

  Sources are interleaved: from the start to any position, the number of a
  source's examples differs from its exact share by less than one for each other
  source.
  The first source gets its share rounded up, the second one its share of what
  is left, and so on. With the weights (3, 1):

    position  0  1  2  3  4  5  6  7
    source    0  0  0  1  0  0  0  1
    earlier   0  1  2  0  3  4  5  1

  Args:
    position: number of the example, from 0.
    weights: whole numbers, of any size.

  Returns:
    The number of the source, and how many examples of it come before.
  """
  before, after, total = position, position + 1, sum(weights)
  for number, weight in enumerate(weights):
    earlier = -(-before * weight // total)
    count = -(-after * weight // total)
    if count > earlier:
      return number, earlier
    before, after, total = before - earlier, after - count, total - weight
  raise AssertionError('one of the counts grows at each position')


def find_peers(source: Sequence[Any], index: int) -> tuple[int | None, range]:
  """Finds the records of the same source of a mixture.

  Returns:
    The number of the source, None without a mixture, and the indices.
  """
  if not isinstance(source, Mixture):
    return None, range(len(source))
  number = source.find_part(index)
  return number, source.ranges[number]


def count_epoch(source: Sequence[Any]) -> numbers.Rational:
  """Number of examples until every record was drawn at least once.

  In a mixture, that is the epoch of the source that is largest relative to its
  weight; others are repeated meanwhile. With weights of very different size it
  may be more than the largest float.
  """
  if not isinstance(source, Mixture):
    return len(source)
  sizes = map(len, source.parts.values())
  shares = source.list_shares()
  return max(n / share for n, share in zip(sizes, shares, strict=True))


def name_repeated(source: Sequence[Any], batch_size: int) -> Iterator[str]:
  """Names the sources of which a batch has more examples than records.

  The name is '' without a mixture.
  """
  parts, shares = {'': source}, [1]
  if isinstance(source, Mixture):
    parts, shares = source.parts, source.list_shares()
  for (name, part), share in zip(parts.items(), shares, strict=True):
    if batch_size * share > len(part):
      yield name
