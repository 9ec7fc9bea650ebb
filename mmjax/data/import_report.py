"""The report of an import for the user."""

import collections
import dataclasses
import json
import pathlib
import posixpath
from collections.abc import Mapping, Sequence

from mmjax.data import raw_records, split_names

SKIPPED_FILE = 'skipped.jsonl'
MAX_SHOWN = 3


@dataclasses.dataclass
class Outcome:
  """Counts and notes of an import.

  Attributes:
    skipped: an entry for each skipped record.
    notes: notes of the readers, one line each.
    splits: names of all splits, empty ones included.
    published: splits that the input names.
    unknown_splits: words of fields `split` that are not read as splits.
    is_published: whether the published splits are kept.
    same_image: number of records whose image another record also has.
    shared_images: number of images of these records.
    divided: number of these records whose image is also in another split.
    has_ids: whether rows of one image file have different ids.
  """

  skipped: list[dict] = dataclasses.field(default_factory=list)
  notes: list[str] = dataclasses.field(default_factory=list)
  splits: tuple[str, ...] = ()
  published: tuple[str, ...] = ()
  unknown_splits: tuple[str, ...] = ()
  is_published: bool = False
  same_image: int = 0
  shared_images: int = 0
  divided: int = 0
  has_ids: bool = False

  def add_same_images(self, raws: Sequence[raw_records.RawRecord]) -> None:
    """Counts records whose images have the same bytes.

    Args:
      raws: one raw record for each of the records.
    """
    self.same_image += len(raws)
    self.shared_images += 1
    # Without ids, an image file has one record in each split of the input.
    files = [(raw.split, raw.image_file) for raw in raws if raw.image_file]
    self.has_ids |= len(set(files)) < len(files)
    if self.is_published and len({raw.split for raw in raws}) > 1:
      self.divided += len(raws)

  def write_skipped(self, folder: pathlib.Path) -> None:
    """Lists the records that were left out, if any, in `SKIPPED_FILE`."""
    if not self.skipped:
      return
    lines = [json.dumps(entry, ensure_ascii=False) for entry in self.skipped]
    # Lone surrogates become escapes, which are valid in JSON too.
    (folder / SKIPPED_FILE).write_text(
      '\n'.join(lines) + '\n', encoding='utf-8', errors='backslashreplace'
    )

  def format_lines(
    self, folder: pathlib.Path, counts: Mapping[str, int]
  ) -> list[str]:
    """Formats the lines to print.

    Args:
      folder: folder of the version.
      counts: number of records by split.
    """
    numbers = ', '.join(f'{name} {count:,}' for name, count in counts.items())
    lines = [f'records: {numbers}', *dict.fromkeys(self.notes)]
    if self.is_published:
      lines.append(
        'the splits are those that the input names; --splits assigns others'
      )
    elif len(self.published) == 1:
      lines.append(
        f'the input names one split only, {self.published[0]}, which was '
        f'divided by a hash; --splits={self.published[0]}:1 keeps it'
      )
    if self.unknown_splits:
      lines.append(
        'values of the field `split` that are not names of splits are '
        f'metadata: {shorten([repr(word) for word in self.unknown_splits])}; '
        f'{split_names.format_flag(self.unknown_splits[0])} reads one as a '
        'split'
      )
    if self.same_image:
      lines.append(self._describe_same_images())
    empty = [name for name, count in counts.items() if not count]
    if empty:
      lines.append(
        f'no record is in {", ".join(empty)}; with few records, give it a '
        'larger fraction with --splits and --overwrite'
      )
    if self.skipped:
      first = [f'{e["where"]}: {e["reason"]}' for e in self.skipped[:MAX_SHOWN]]
      lines += [
        f'{len(self.skipped):,} unreadable: see {folder / SKIPPED_FILE}',
        *(f'  {line:.300}' for line in first),
      ]
    return lines

  def _describe_same_images(self) -> str:
    line = (
      f'{self.same_image:,} records share {self.shared_images:,} images; '
      'retrieval counts the captions of the others as wrong, so its recall '
      'will be too low'
    )
    if self.has_ids:
      line += (
        '; --columns=own_id=id merges the rows of an image file into one record'
      )
    else:
      line += (
        '; to get one record per image, put all its captions into a list '
        '`captions` in one row or sample'
      )
    if self.divided:
      line += f'; {self.divided:,} share one with another split of the input'
    return line


def shorten(names: Sequence[str]) -> str:
  """Joins the first few of some names, for a message.

  >>> shorten(['a', 'b', 'c', 'd'])
  'a, b, c, ...'
  """
  more = ['...'] if len(names) > MAX_SHOWN else []
  return ', '.join([*names[:MAX_SHOWN], *more])


def count_endings(names: Sequence[str]) -> str:
  """Counts files by the endings of their names, for a message.

  >>> count_endings(['a.heic', 'b.HEIC', 'LICENSE'])
  '2 .heic, 1 LICENSE'
  """
  counts = collections.Counter(
    posixpath.splitext(name)[1].lower() or posixpath.basename(name)
    for name in names
  )
  return shorten([f'{n:,} {ending}' for ending, n in counts.most_common()])
