"""Classes as the names of the folders of images, sounds and videos."""

import pathlib
from collections.abc import Collection, Sequence

from mmjax.data import image_rows, import_report
from mmjax.errors import ConfigError


def find(labels: Sequence[str], way_out: str) -> str:
  """Returns the class of a file by the folders that it is in.

  Args:
    labels: names of the folders, from the outermost, without that of a split.
    way_out: how inner folders are read, for the message.

  Raises:
    ConfigError: if there is none, or more than one.
  """
  if not labels:
    raise ConfigError(
      'it is not in a folder named after its class, and has no text of its '
      'name beside it'
    )
  if len(labels) > 1:
    raise ConfigError(
      f'its class could be {labels[0]!r} or {labels[-1]!r}, since it is in '
      f'both folders; {way_out}'
    )
  return labels[0]


def note(
  root: pathlib.Path,
  classes: Collection[str],
  count: int,
  options: image_rows.Options,
) -> None:
  """Notes names of class folders that may not be captions.

  Args:
    root: the folder or tar.
    classes: names of the classes.
    count: number of images.
    options: options, of which `note` is used.
  """
  names = sorted(classes)
  if len(names) == 1 and count > 1:
    options.note(
      f'all images of {root} have the caption {names[0]!r}, the name of their '
      'only folder; name captions in a metadata.csv or in KEY.txt'
    )
  if names and all(map(str.isdigit, names)):
    options.note(
      f'the captions of {root} are numbers, the names of its class folders: '
      f'{import_report.shorten(names)}; name the folders after the classes to '
      'have words as captions'
    )
