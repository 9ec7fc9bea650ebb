"""Records that were read once and found good, and the splits they fall to."""

import collections
import dataclasses
import hashlib
import re
from collections.abc import Mapping

from mmjax.data import raw_records, records, split_names, splitting
from mmjax.errors import ConfigError

_DEAL = '--splits=train:0.8,validation:0.1,test:0.1'


class CheckedRecords:
  """Raw records by id, with what decides their splits.

  Records whose images have the same bytes are of one group: each group is a set
  of names that were found to belong together.

  Args:
    group_by: field whose values are groups; None for the raw records' own.
    language: which to take of captions by language.
    keeps_splits: whether records may be of a split that the input names, by a
      field `split`, if it is one of `split_names.SPLITS`, or otherwise.

  Attributes:
    raws: the raw records that make one record together, by its id.
    digests: a hash of each record's image, by id; None without an image.
  """

  def __init__(
    self, group_by: str | None, language: str | None, *, keeps_splits: bool
  ):
    self.raws: dict[str, list[raw_records.RawRecord]] = {}
    self.digests: dict[str, int | None] = {}
    self._group_by = group_by
    self._language = language
    self._keeps_splits = keeps_splits
    self._group_of: dict[str, str] = {}  # By id.
    self._parents: dict[str, str] = {}  # The group that a group was joined to.
    self._first_with: dict[int, str] = {}  # A group by digest.

  def add(self, raw: raw_records.RawRecord) -> None:
    """Reads and checks a raw record.

    Raises:
      ConfigError: it can't be read, or does not agree with one before it.
      OSError: a file can't be read.
    """
    before = self.raws.get(raw.id)
    if before and not (raw.is_part and before[0].is_part):
      raise ConfigError(
        f'the id {raw.id!r} is taken by a record before it; with '
        '--columns=own_id=id such ids are metadata, and the rows of an image '
        'one record'
      )
    # The image of a record's first part is that of all.
    image = b'' if before else None
    record = raw_records.to_record(raw, self._language, image=image)
    split = self._split(raw, record) if self._keeps_splits else None
    if split != raw.split:
      raw = dataclasses.replace(raw, split=split)
    self._check_split(raw, before)
    group = self._group(raw)
    if before:
      if group != self._group_of[raw.id]:
        raise ConfigError(
          f'its {self._group_by} is {group!r}, but that of a row before it '
          f'with the same image is {self._group_of[raw.id]!r}; records of one '
          f'{self._group_by} share a split'
        )
      before.append(raw)
      return
    self.raws[raw.id] = [raw]
    self._group_of[raw.id] = group
    self._add_image(raw.id, group, record['image'])

  def split_names(self) -> list[str]:
    """The splits that the input names, which may be none.

    Raises:
      ConfigError: it names those of some records only.
    """
    first: dict[str | None, str] = {}
    for raws in self.raws.values():
      first.setdefault(raws[0].split, raws[0].where)
    unnamed = first.pop(None, None)
    if unnamed is not None and first:
      name, where = next(iter(first.items()))
      raise ConfigError(
        f'{where} is of the split {name!r}, but {unnamed} of none; name the '
        'split of each by its file, its folder or its column `split`, or deal '
        f'all of them by a hash, {_DEAL}'
      )
    return list(first)

  def deal(
    self, splits: Mapping[str, float] | None
  ) -> dict[str, list[list[raw_records.RawRecord]]]:
    """The records of each split, in the order in which they were added.

    Args:
      splits: names with shares that make 1; None for the input's own splits.
    """
    names = splits or self.split_names()
    dealt = {name: [] for name in names}
    for key, raws in self.raws.items():
      split = raws[0].split
      if splits is not None:
        split = splitting.deal(self._joined(self._group_of[key]), splits)
      dealt[split].append(raws)
    return dealt

  def same_images(self) -> list[list[str]]:
    """The ids of records that share an image's bytes, an image at a time."""
    ids = collections.defaultdict(list)
    for key, digest in self.digests.items():
      if digest is not None:
        ids[digest].append(key)
    return [keys for keys in ids.values() if len(keys) > 1]

  def _split(
    self, raw: raw_records.RawRecord, record: records.Record
  ) -> str | None:
    for key, value in record['metadata'].items():
      if key.lower() == 'split' and isinstance(value, str):
        return split_names.SPLITS.get(value.strip().lower(), raw.split)
    return raw.split

  def _check_split(
    self,
    raw: raw_records.RawRecord,
    before: list[raw_records.RawRecord] | None,
  ) -> None:
    if raw.split and not re.fullmatch('[a-z][a-z0-9_]*', raw.split):
      raise ConfigError(
        f'its split {raw.split!r} should be lower-case letters, digits and _'
      )
    if before and raw.split != before[0].split:
      raise ConfigError(
        f'its split is {raw.split!r}, but that of a row before it with the '
        f'same image is {before[0].split!r}; give rows ids of their own, or '
        f'deal all of them by a hash, {_DEAL}'
      )

  def _group(self, raw: raw_records.RawRecord) -> str:
    if self._group_by is None:
      return raw.group
    fields = raw.read_fields()
    if self._group_by not in fields:
      raise ConfigError(
        f'there is no field {self._group_by!r} to group by among '
        f'{", ".join(fields)}'
      )
    return str(fields[self._group_by])

  def _add_image(self, key: str, group: str, image: bytes) -> None:
    if not image:
      self.digests[key] = None
      return
    raw = hashlib.blake2b(image, digest_size=8).digest()
    digest = self.digests[key] = int.from_bytes(raw)
    first = self._joined(self._first_with.setdefault(digest, group))
    other = self._joined(group)
    if first != other:
      # The smaller name, whichever came first.
      self._parents[max(first, other)] = min(first, other)

  def _joined(self, group: str) -> str:
    while group in self._parents:
      group = self._parents[group]
    return group
