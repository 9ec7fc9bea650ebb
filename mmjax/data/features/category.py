"""Fields of classes."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from mmjax.data import contact_sheet, splitting
from mmjax.data.features import base, json_faults
from mmjax.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Category(base.Feature):
  """One class of a fixed set, or several.

  A value is a list of names. The array is int32 [], the class's index; with
  `multi_label` float32 [C], 1 for each class that the record has. The mask is
  bool []; it is also False for a class that is not among `classes`.

  Attributes:
    classes: names of the classes; None for those of the training records, in
      alphabetical order.
    multi_label: whether a record may have several classes.
    labelled: fraction of the training records whose class is used; the others
      count as without a class. A hash of the record's id selects them, so they
      are the same in each epoch, on each host and in each run, and those of a
      smaller fraction are among those of a larger one. Evaluation uses all.
    labelled_share: fraction of the examples of training that are drawn from the
      records whose class is used, which are repeated as often as this needs; a
      quarter is three examples without a class to one with it (the ratio mu of
      FixMatch). None draws all records alike.
  """

  kind: ClassVar[str] = 'category'
  field_kinds: ClassVar[tuple[str, ...]] = ('category',)
  word: ClassVar[str] = 'a class'
  training_only: ClassVar[tuple[str, ...]] = ('labelled', 'labelled_share')
  encoder_settings: ClassVar[tuple[str, ...]] = ('classes', 'multi_label')

  classes: Sequence | None = None
  multi_label: bool = False
  labelled: float = 1.0
  labelled_share: float | None = None

  def __post_init__(self):
    super().__post_init__()
    if not 0 < self.labelled <= 1:
      self.refuse('labelled', 'is not legal: more than 0 and at most 1')
    if self.labelled_share is not None and not 0 < self.labelled_share < 1:
      self.refuse(
        'labelled_share', 'is not legal: more than 0 and less than 1, or None'
      )
    for name in self.classes or ():
      if not isinstance(name, str):
        self.refuse('classes', f'has {name!r}, which is not a name')
    index = {name: i for i, name in enumerate(self.classes or ())}
    if len(index) < len(self.classes or ()):
      self.refuse('classes', 'names a class twice')
    if self.classes is not None and len(index) < 2:
      self.refuse('classes', 'is not legal: at least two names')
    object.__setattr__(self, '_index', index)

  @classmethod
  def from_metadata(cls, value: Any) -> list[str]:
    return list(map(str, value if isinstance(value, list) else [value]))

  @classmethod
  def explain_fault(cls, value: Any) -> str:
    if not isinstance(value, list):
      return f'should be list, not {type(value).__name__}'
    if wrong := [name for name in value if not isinstance(name, str)]:
      return f'should hold names of classes, not {wrong[0]!r:.80}'
    return json_faults.explain_json_fault(value)

  def fit(self, source: Any) -> 'Category':
    if self.is_fitted:
      return self
    counts: collections.Counter = collections.Counter()
    for value in self.iterate_values(source):
      counts.update(value or ())
      if len(value or ()) > 1 and not self.multi_label:
        raise ConfigError(
          f'data.features.{self.name}: a record has the classes '
          f'{", ".join(value)}; with data.features.{self.name}.multi_label '
          'records may have several'
        )
    if len(counts) < 2:
      raise ConfigError(
        f'data.features.{self.name}: the training records have '
        f'{list(counts) or "no class"} in the field {self.field_name!r}, which '
        f'needs at least two{"" if counts else self.list_metadata(source)}'
      )
    return dataclasses.replace(self, classes=tuple(sorted(counts)))

  @property
  def is_fitted(self) -> bool:
    return self.classes is not None

  def is_labelled(self, record: Mapping[str, Any]) -> bool:
    """Whether training uses a record's class, if it has one."""
    if self.labelled == 1:
      return True
    fractions = {'labelled': self.labelled, 'hidden': 1 - self.labelled}
    # A hash of its own: that of the id alone may have assigned the split.
    return splitting.assign(f'label {record["id"]}', fractions) == 'labelled'

  def trains_on(self, record: Mapping[str, Any]) -> bool:
    """Whether a training example of a record has a class.

    Args:
      record: record as in `mmjax.data.records`; the feature is fitted.
    """
    names = self.get(record) or ()
    known = self.multi_label or any(name in self._index for name in names)
    return bool(names) and known and self.is_labelled(record)

  def choose(
    self, record: Mapping[str, Any], rng: np.random.Generator | None
  ) -> Any:
    is_hidden = rng is not None and not self.is_labelled(record)
    return None if is_hidden else self.get(record)

  def make_arrays(
    self, chosen: Sequence[str], rng: np.random.Generator | None, *, flips
  ) -> base.Example:
    del rng, flips
    known = [self._index[name] for name in chosen if name in self._index]
    if not self.multi_label:
      return self._pair(np.int32(known[0] if known else 0), bool(known))
    array = np.zeros(len(self.classes), np.float32)
    array[known] = 1
    return self._pair(array, True)

  def make_absent(self, rng: np.random.Generator | None = None):
    del rng
    shape = (len(self.classes),) if self.multi_label else ()
    dtype = np.float32 if self.multi_label else np.int32
    return self._pair(np.zeros(shape, dtype)[()], False)

  def prepare(self, value: Any) -> base.Example:
    names = [value] if isinstance(value, str) else value
    names = list(names) if isinstance(names, tuple) else names
    if not names or self.explain_fault(names):
      raise ConfigError(
        f'{self.name} is the name of a class, or a list of them, not '
        f'{value!r:.80}'
      )
    if len(names) > 1 and not self.multi_label:
      raise ConfigError(f'{self.name} is one class, not {", ".join(names)}')
    unknown = [name for name in names if name not in self._index]
    if unknown:
      raise ConfigError(
        f'{self.name} has no class {unknown[0]!r}; it has '
        f'{", ".join(self.classes)}'
      )
    return self.make_arrays(names, None, flips=False)

  @classmethod
  def render(cls, value: Sequence[str]) -> contact_sheet.Cell:
    return None, [', '.join(value)]

  def _pair(self, array: Any, is_known: bool) -> base.Example:
    return {self.name: array, f'{self.name}_mask': np.bool_(is_known)}
