"""Records that were read once without error, and their splits."""

import collections
import dataclasses
import hashlib
import re
import types
from collections.abc import Mapping, Sequence

from mmjax.data import (
  extra_fields,
  raw_records,
  records,
  split_names,
  splitting,
)
from mmjax.errors import ConfigError

_MAX_UNKNOWN = 10
_URL = re.compile('https?://')
_SPLITS_FLAG = '--splits=train:0.8,validation:0.1,test:0.1'


class CheckedRecords:
  """Raw records by id, and the groups of records that share a split.

  Groups that have an image, a sound or a video with the same bytes are merged.

  Args:
    group_by: field whose values are groups; None for the raw records' own.
    language: language to take of captions by language.
    keeps_splits: whether records keep the split that the input names, in a
      field `split` with one of `split_names.SPLITS`, or otherwise.
    extra: fields that further columns fill.
    splits_by_word: further splits by the lower-case words of a field `split`.

  Attributes:
    raws: the raw records that form one record together, by its id.
    digests: a hash of each record's image by id; None without an image.
    unknown_splits: location of the first record by the words of fields `split`
      that are not read as splits, at most `_MAX_UNKNOWN`.
  """

  def __init__(
    self,
    group_by: str | None,
    language: str | None,
    *,
    keeps_splits: bool,
    extra: Sequence[extra_fields.ExtraField] = (),
    splits_by_word: Mapping[str, str] = types.MappingProxyType({}),
  ):
    self.raws: dict[str, list[raw_records.RawRecord]] = {}
    self.digests: dict[str, int | None] = {}
    self._group_by = group_by
    self._language = language
    self.unknown_splits: dict[str, str] = {}
    self._keeps_splits = keeps_splits
    self._extra = extra
    self._schema = raw_records.make_schema(extra)
    self._splits_by_word = split_names.SPLITS | dict(splits_by_word)
    self._unused_words = set(splits_by_word)
    self._groups: dict[str, str] = {}  # By id.
    self._parents: dict[str, str] = {}  # The group that a group is merged into.
    self._file_groups: dict[int, str] = {}  # By digest.
    self._filled: set[str] = set()  # Fields that some record has.

  def add(self, raw: raw_records.RawRecord) -> None:
    """Reads and checks a raw record.

    Raises:
      ConfigError: if it can't be read, or contradicts an earlier one.
      OSError: if a file can't be read.
    """
    earlier = self.raws.get(raw.id)
    is_same = earlier and raw.image_file == earlier[0].image_file
    if earlier and not (raw.is_part and earlier[0].is_part and is_same):
      raise ConfigError(
        f'the id {raw.id!r} is taken by a record before it; with '
        '--columns=own_id=id such ids are metadata, and the rows of an image '
        'become one record'
      )
    # All parts of a record have the first part's image.
    image = b'' if earlier else None
    record = raw_records.to_record(
      raw,
      self._language,
      image=image,
      schema=self._schema,
      extra=self._extra,
    )
    self._filled.update(record['fields'])
    split = self._read_split(raw, record) if self._keeps_splits else None
    if split != raw.split:
      raw = dataclasses.replace(raw, split=split)
    self._check_split(raw, earlier)
    if earlier and split != earlier[0].split:
      # An image in several splits of the input has a record in each of them.
      raw = dataclasses.replace(raw, id=f'{raw.id}#{split}')
      earlier = self.raws.get(raw.id)
      if not earlier:
        record['fields']['image'] = raw.read_image()
    group = self._read_group(raw)
    if earlier:
      if group != self._groups[raw.id]:
        raise ConfigError(
          f'its {self._group_by} is {group!r}, but that of a row before it '
          f'with the same image is {self._groups[raw.id]!r}; records of one '
          f'{self._group_by} share a split'
        )
      earlier.append(raw)
      return
    self.raws[raw.id] = [raw]
    self._groups[raw.id] = group
    fields = record['fields']
    image = fields.get('image')
    self.digests[raw.id] = self._share(group, image) if image else None
    for field in self._extra:
      if field.kind in ('sound', 'video') and field.name in fields:
        data = fields[field.name]
        self._share(group, data if isinstance(data, bytes) else b''.join(data))

  def check_fields(self) -> None:
    """Refuses fields that no record has.

    Raises:
      ConfigError: if a column is missing or empty in all records, or no record
        has an image or another field than texts.
    """
    if not any(self.digests.values()) and not self._extra:
      raise ConfigError(self._explain_missing_images())
    for field in self._extra:
      if field.name not in self._filled:
        first = next(iter(self.raws.values()))[0]
        raise ConfigError(
          f'--fields={field.name}={field.kind}:{field.column}: no record has a '
          f'column {field.column!r} with a value; the first one has '
          f'{", ".join(first.read_fields())}'
        )

  def _explain_missing_images(self) -> str:
    fields = next(iter(self.raws.values()))[0].read_fields()
    urls = [
      name
      for name, value in fields.items()
      if isinstance(value, str) and _URL.match(value)
    ]
    if urls:
      return (
        f'no record has an image; the column {urls[0]!r} has URLs: download '
        'the images first, for example with img2dataset, whose tars '
        '--format=webdataset reads'
      )
    return (
      f'no record has an image; name the column of its path, here one of '
      f'{", ".join(fields)}, with --columns=image=COLUMN'
    )

  def find_split_names(self) -> list[str]:
    """Returns the splits that the input names, perhaps none.

    Raises:
      ConfigError: if only some records have a split, or a word for a split
        never occurs.
    """
    if self._unused_words:
      raise ConfigError(
        f'no record has a field `split` with {sorted(self._unused_words)[0]!r},'
        ' which --split_names names'
      )
    first: dict[str | None, str] = {}
    for raws in self.raws.values():
      first.setdefault(raws[0].split, raws[0].where)
    unnamed = first.pop(None, None)
    if unnamed is not None and first and self.unknown_splits:
      raise self._make_unknown_error()
    if unnamed is not None and first:
      name, where = next(iter(first.items()))
      raise ConfigError(
        f'{where} is of the split {name!r}, but {unnamed} of none; name the '
        'split of each by its file, its folder or its column `split`, or '
        f'assign all of them by a hash, {_SPLITS_FLAG}'
      )
    return list(first)

  def assign(
    self, splits: Mapping[str, float] | None
  ) -> dict[str, list[list[raw_records.RawRecord]]]:
    """Returns the records of each split, in the order of `add`.

    Args:
      splits: fractions by name, with a sum of 1; None for the input's splits.
    """
    names = splits or self.find_split_names()
    records_by_split = {name: [] for name in names}
    for key, raws in self.raws.items():
      split = raws[0].split
      if splits is not None:
        split = splitting.assign(self._find_root(self._groups[key]), splits)
      records_by_split[split].append(raws)
    return records_by_split

  def find_same_images(self) -> list[list[str]]:
    """Returns the ids of the records of each image that several have."""
    ids = collections.defaultdict(list)
    for key, digest in self.digests.items():
      if digest is not None:
        ids[digest].append(key)
    return [keys for keys in ids.values() if len(keys) > 1]

  def _read_split(
    self, raw: raw_records.RawRecord, record: records.Record
  ) -> str | None:
    for key, value in record['metadata'].items():
      if key.lower() == 'split' and isinstance(value, str):
        word = value.strip()
        self._unused_words.discard(word.lower())
        split = self._splits_by_word.get(word.lower())
        is_unknown = split is None and word not in ('', raw.split)
        if is_unknown and len(self.unknown_splits) < _MAX_UNKNOWN:
          self.unknown_splits.setdefault(word, raw.where)
        return split or raw.split
    return raw.split

  def _check_split(
    self,
    raw: raw_records.RawRecord,
    earlier: list[raw_records.RawRecord] | None,
  ) -> None:
    if raw.split and not re.fullmatch('[a-z][a-z0-9_]*', raw.split):
      raise ConfigError(
        f'its split {raw.split!r} should be lower-case letters, digits and _; '
        f'name it, for example {split_names.format_flag(raw.split)}'
      )
    if earlier and (raw.split is None) != (earlier[0].split is None):
      if self.unknown_splits:
        raise self._make_unknown_error()
      raise ConfigError(
        f'its split is {raw.split!r}, but that of a row before it with the '
        f'same image is {earlier[0].split!r}; name the split of each row, or '
        f'assign all of them by a hash, {_SPLITS_FLAG}'
      )

  def _make_unknown_error(self) -> ConfigError:
    word, where = next(iter(self.unknown_splits.items()))
    return ConfigError(
      f'{where} is of the split {word!r}, which is unknown; name its split, '
      f'for example {split_names.format_flag(word)}, or assign all records by '
      f'a hash, {_SPLITS_FLAG}'
    )

  def _read_group(self, raw: raw_records.RawRecord) -> str:
    if self._group_by is None:
      return raw.group
    fields = raw.read_fields()
    if self._group_by not in fields:
      raise ConfigError(
        f'there is no field {self._group_by!r} to group by among '
        f'{", ".join(fields)}'
      )
    return str(fields[self._group_by])

  def _share(self, group: str, data: bytes) -> int:
    """Merges a group with those of the same data; returns the data's hash."""
    digest = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())
    first = self._find_root(self._file_groups.setdefault(digest, group))
    other = self._find_root(group)
    if first != other:
      # The smaller name, so that the order of records doesn't matter.
      self._parents[max(first, other)] = min(first, other)
    return digest

  def _find_root(self, group: str) -> str:
    while group in self._parents:
      group = self._parents[group]
    return group
