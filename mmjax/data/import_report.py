"""What people should know of an import."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence

from mmjax.data import raw_records

SKIPPED_FILE = 'skipped.jsonl'
SHOWN = 3


@dataclasses.dataclass
class Outcome:
  """What an import met on its way.

  Attributes:
    skipped: an entry for each record that was left out.
    notes: what readers noticed.
    splits: the splits that records were dealt to, with or without any.
    published: the splits that the input names.
    is_published: whether these are kept.
    same_image: how many records have an image that another has too.
    shared_images: how many images these have.
    divided: how many of the records share one with another split.
    has_ids: whether rows of one image file have different ids of their own.
  """

  skipped: list[dict] = dataclasses.field(default_factory=list)
  notes: list[str] = dataclasses.field(default_factory=list)
  splits: tuple[str, ...] = ()
  published: tuple[str, ...] = ()
  is_published: bool = False
  same_image: int = 0
  shared_images: int = 0
  divided: int = 0
  has_ids: bool = False

  def add_same_images(self, raws: Sequence[raw_records.RawRecord]) -> None:
    """Counts records whose images have the same bytes, one raw each."""
    self.same_image += len(raws)
    self.shared_images += 1
    files = [raw.image_file for raw in raws if raw.image_file]
    self.has_ids |= len(set(files)) < len(files)
    if self.is_published and len({raw.split for raw in raws}) > 1:
      self.divided += len(raws)

  def write_skipped(self, folder: pathlib.Path) -> None:
    """Lists the records that were left out, if any, in `SKIPPED_FILE`."""
    if not self.skipped:
      return
    lines = [json.dumps(entry, ensure_ascii=False) for entry in self.skipped]
    # Halves of characters become escapes, which are JSON's too.
    (folder / SKIPPED_FILE).write_text(
      '\n'.join(lines) + '\n', encoding='utf-8', errors='backslashreplace'
    )

  def lines(self, folder: pathlib.Path, counts: Mapping[str, int]) -> list[str]:
    """What to print.

    Args:
      folder: of the version.
      counts: the number of records by split.
    """
    numbers = ', '.join(f'{name} {count:,}' for name, count in counts.items())
    lines = [f'records: {numbers}', *dict.fromkeys(self.notes)]
    if self.is_published:
      lines.append(
        'the splits are those that the input names; --splits deals others'
      )
    elif len(self.published) == 1:
      lines.append(
        f'the input names one split only, {self.published[0]}, of which these '
        f'splits are dealt by a hash; --splits={self.published[0]}:1 keeps it'
      )
    if self.same_image:
      lines.append(self._about_same_images())
    empty = [name for name, count in counts.items() if not count]
    if empty:
      lines.append(
        f'no record fell to {", ".join(empty)}; with few records, give it a '
        'larger share with --splits and --overwrite'
      )
    if self.skipped:
      first = [f'{e["where"]}: {e["reason"]}' for e in self.skipped[:SHOWN]]
      lines += [
        f'{len(self.skipped):,} unreadable: see {folder / SKIPPED_FILE}',
        *(f'  {line:.300}' for line in first),
      ]
    return lines

  def _about_same_images(self) -> str:
    line = (
      f'{self.same_image:,} records share {self.shared_images:,} images; '
      'retrieval counts the captions of the others as wrong, so its recall '
      'will be too low'
    )
    if self.has_ids:
      line += (
        '; --columns=own_id=id makes one record of the rows of an image file'
      )
    else:
      line += (
        '; a record holds all captions of its image where they are a list of '
        'one row or sample, `captions`'
      )
    if self.divided:
      line += (
        f'; {self.divided:,} are in several splits, since the input says so'
      )
    return line


def some(names: Sequence[str]) -> str:
  """The first few of some names, for a message.

  >>> some(['a', 'b', 'c', 'd'])
  'a, b, c, ...'
  """
  more = ['...'] if len(names) > SHOWN else []
  return ', '.join([*names[:SHOWN], *more])
