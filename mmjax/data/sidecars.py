"""Finds the files with the texts of images, beside them or in other folders."""

import collections
import posixpath
from collections.abc import Iterable, Iterator, Sequence

from mmjax.errors import ConfigError


def match(
  images: Sequence[str], files: Sequence[str], text_folders: Iterable[str]
) -> dict[str, list[str]]:
  """Returns the files of each image, in order; omits images without any.

  The file of `a/1.png` is `a/1.txt` or `a/1.png.txt`. In a folder of texts, one
  folder of its path may differ, as in `images/1.png` and `captions/1.txt`, or
  `train/images/1.png` and `train/captions/1.txt`; or be missing from one.

  Args:
    images: paths of images, with `/` between folders.
    files: paths of texts and the like.
    text_folders: folders that hold such files alone.

  Raises:
    ConfigError: if a file in a folder of texts fits several images.
  """
  matches: dict[str, list[str]] = {}
  by_base = collections.defaultdict(list)
  for image in images:
    by_base[image].append(image)
    by_base[_drop_ending(image)].append(image)
  text_folders, others = frozenset(text_folders), []
  for file in files:
    for image in by_base.get(_drop_ending(file), ()):
      matches.setdefault(image, []).append(file)
    if (
      _drop_ending(file) not in by_base
      and posixpath.dirname(file) in text_folders
    ):
      others.append(file)
  if others:
    _match_folders(by_base, others, matches)
  return matches


def _match_folders(
  by_base: dict[str, list[str]],
  files: Sequence[str],
  matches: dict[str, list[str]],
) -> None:
  """Adds the images that a file fits except for one folder."""
  by_rest = collections.defaultdict(list)
  for base, images in by_base.items():
    for rest in _drop_each_folder(base):
      by_rest[rest] += images
  for file in files:
    base = _drop_ending(file)
    candidates = by_rest.get((None, base), [])[:]
    for place, rest in _drop_each_folder(base):
      if place is None:
        candidates += by_base.get(rest, ())
      else:
        candidates += by_rest.get((place, rest), ())
    candidates = list(dict.fromkeys(candidates))
    if len({_drop_ending(image) for image in candidates}) > 1:
      raise ConfigError(
        f'the text {file} could be that of {candidates[0]} or of '
        f'{candidates[1]}; write each text beside its image, or name the '
        'captions in a metadata.csv'
      )
    for image in candidates:
      matches.setdefault(image, []).append(file)


def _drop_each_folder(path: str) -> Iterator[tuple[int | None, str]]:
  """Yields a path without each of its folders, with and without its place."""
  parts = path.split('/')
  for place in range(len(parts) - 1):
    rest = '/'.join(parts[:place] + parts[place + 1 :])
    yield place, rest
    yield None, rest


def _drop_ending(path: str) -> str:
  return path.rpartition('.')[0]
