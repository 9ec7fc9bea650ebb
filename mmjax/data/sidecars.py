"""Finds the files with the texts of images, beside them or in other folders."""

import collections
from collections.abc import Collection, Iterator, Sequence

from mmjax.errors import ConfigError


def match(
  images: Sequence[str], files: Sequence[str], separate: Collection[str]
) -> dict[str, list[str]]:
  """Returns the files of each image, in order; omits images without any.

  The file of `a/1.png` is `a/1.txt` or `a/1.png.txt`. For a separate one, one
  folder of the path may differ, as in `images/1.png` and `captions/1.txt`, or
  `train/images/1.png` and `train/captions/1.txt`; or be missing from one.

  Args:
    images: paths of images, with `/` between folders.
    files: paths of texts and the like.
    separate: files of `files` whose images may be in another folder.

  Raises:
    ConfigError: if a separate file fits several images.
  """
  matches: dict[str, list[str]] = {}
  by_base = collections.defaultdict(list)
  for image in images:
    by_base[image].append(image)
    by_base[drop_ending(image)].append(image)
  for file in files:
    for image in by_base.get(drop_ending(file), ()):
      matches.setdefault(image, []).append(file)
  if separate:
    _match_folders(by_base, separate, matches)
  return matches


def drop_ending(path: str) -> str:
  """Returns a path without its last ending."""
  return path.rpartition('.')[0]


def _match_folders(
  by_base: dict[str, list[str]],
  files: Collection[str],
  matches: dict[str, list[str]],
) -> None:
  """Adds the images that a file fits except for one folder."""
  by_rest = collections.defaultdict(list)
  for base, images in by_base.items():
    for rest in _drop_each_folder(base):
      by_rest[rest] += images
  for file in files:
    base = drop_ending(file)
    candidates = by_rest.get((None, base), [])[:]
    for place, rest in _drop_each_folder(base):
      if place is None:
        candidates += by_base.get(rest, ())
      else:
        candidates += by_rest.get((place, rest), ())
    candidates = list(dict.fromkeys(candidates))
    if len({drop_ending(image) for image in candidates}) > 1:
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
