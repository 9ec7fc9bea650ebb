"""Reads JSON objects that are whole tables, as pandas writes them."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmjax.data import images
from mmjax.errors import ConfigError


def find_orient(value: Mapping[str, Any]) -> str | None:
  """Returns the orientation of pandas that a table was written with.

  >>> find_orient({'image': {'0': 'a.png'}, 'caption': {'0': 'a dog'}})
  'columns'
  >>> find_orient({'0': {'image': 'a.png', 'caption': 'a dog'}})
  'index'
  >>> find_orient({'a.png': 'a dog', 'b.png': ['a cat', 'a pet']})
  'images'

  Args:
    value: an object that is all of a file.

  Returns:
    'columns', 'index', 'list' or 'split'; 'images' for captions, or rows, by
    the names of images; None for an object of another kind, and for one row,
    as {'image': ['a.png'], 'caption': ['a dog']} is.
  """
  if not value:
    return None
  cells = list(value.values())
  endings = tuple(f'.{ending}' for ending in images.ENDINGS)
  if all(key.lower().endswith(endings) for key in value):
    return 'images'
  if all(isinstance(cell, dict) and cell for cell in cells):
    if not all(cell.keys() == cells[0].keys() for cell in cells):
      return None
    if all(key.isdigit() for key in cells[0]):
      return 'columns'
    return 'index' if all(key.isdigit() for key in value) else None
  if not all(isinstance(cell, list) for cell in cells):
    return None
  if {'columns', 'data'} <= value.keys() <= {'columns', 'data', 'index'}:
    return 'split'
  counts = {len(cell) for cell in cells}
  is_list = len(cells) > 1 and len(counts) == 1 and counts.pop() > 1
  # Objects are the entries of a list, such as COCO's `images`.
  has_objects = any(isinstance(item, dict) for cell in cells for item in cell)
  return 'list' if is_list and not has_objects else None


def read_rows(value: Mapping[str, Any], orient: str) -> Iterator[Any]:
  """Yields the rows of a table, or a ConfigError for one of another length.

  >>> list(
  ...   read_rows({'image': ['a.png', 'b.png'], 'caption': ['x', 'y']}, 'list')
  ... )
  [{'image': 'a.png', 'caption': 'x'}, {'image': 'b.png', 'caption': 'y'}]

  Args:
    value: an object that is all of a file.
    orient: its orientation, as `find_orient` returns it.
  """
  if orient == 'index':
    yield from value.values()
    return
  if orient == 'images':
    for name, cell in value.items():
      row = cell if isinstance(cell, dict) else {'caption': cell}
      yield {'image': name} | row
    return
  names, rows = list(value), zip(*value.values(), strict=False)
  if orient == 'columns':
    # The columns may have their rows in different orders.
    numbers = list(next(iter(value.values())))
    rows = [[value[name][number] for name in names] for number in numbers]
  elif orient == 'split':
    names, rows = value['columns'], value['data']
  for row in rows:
    if not isinstance(row, list | tuple) or len(row) != len(names):
      yield ConfigError(
        f'it is not a list of {len(names)} values, one for each of the columns '
        f'{", ".join(map(str, names))}'
      )
    else:
      yield dict(zip(map(str, names), row, strict=True))
