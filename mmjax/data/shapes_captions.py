"""Captions of the `shapes` data set, and reading them back.

Every caption names size, colour, shape and position of every object in reading
order, so a caption says exactly which scene it is about.
"""

import re

from mmjax.data import shapes_scenes as scenes

_PLACES = {
  position: f'in the {position}'
  if position == 'center'
  else f'on the {position}'
  if position in ('left', 'right')
  else f'at the {position}'
  for position in scenes.POSITIONS
}

_SIZE = f'(?P<size>{"|".join(scenes.SIZES)})'
_COLOR = f'(?P<color>{"|".join(scenes.COLORS)})'
_SHAPE = f'(?P<shape>{"|".join(scenes.SHAPES)})'
# Longest first: 'top left' before 'top'.
_POSITION = (
  f'(?P<position>{"|".join(sorted(scenes.POSITIONS, key=len, reverse=True))})'
)
_PLACE = rf'(?:in|on|at) the {_POSITION}\b'
# One pattern an object for each way of saying it in `captions`.
_PATTERNS = tuple(
  re.compile(pattern)
  for pattern in (
    rf'\ba {_SIZE} {_COLOR} {_SHAPE} {_PLACE}',
    rf'\b{_PLACE} (?:there is )?a {_SIZE} {_COLOR} {_SHAPE}\b',
    rf'\bthe {_SHAPE} {_PLACE} is {_SIZE} and {_COLOR}\b',
    rf'\b{_POSITION}: {_SIZE} {_COLOR} {_SHAPE}\b',
  )
)
_BETWEEN = re.compile(r'(?:,|;|\.|\band\b|\s)*')


def captions(scene: scenes.Scene) -> list[str]:
  """Four sentences, each a full description of the scene.

  >>> for line in captions(
  ...   (
  ...     scenes.Object('small', 'red', 'circle', 'top left'),
  ...     scenes.Object('large', 'blue', 'square', 'center'),
  ...   )
  ... ):
  ...   print(line)
  a small red circle at the top left and a large blue square in the center
  at the top left there is a small red circle, in the center a large blue square
  the circle at the top left is small and red, the square in the center is large and blue
  top left: small red circle; center: large blue square
  """  # noqa: E501 (a caption is one line)
  plain, placed, told, listed = [], [], [], []
  for size, color, shape, position in scene:
    place = _PLACES[position]
    there_is = '' if placed else 'there is '
    plain.append(f'a {size} {color} {shape} {place}')
    placed.append(f'{place} {there_is}a {size} {color} {shape}')
    told.append(f'the {shape} {place} is {size} and {color}')
    listed.append(f'{position}: {size} {color} {shape}')
  first = ', '.join(plain[:-1])
  return [
    f'{first} and {plain[-1]}' if first else plain[-1],
    ', '.join(placed),
    ', '.join(told),
    '; '.join(listed),
  ]


def parse_caption(text: str) -> scenes.Scene | None:
  """The objects that a caption speaks of, in its order.

  Args:
    text: a caption of any of the four kinds, upper case or spaces aside.

  Returns:
    The objects, or None where the text isn't made of object descriptions of one
    kind from its beginning to its end.

  >>> parse_caption('a small red circle at the top left')
  (Object(size='small', color='red', shape='circle', position='top left'),)
  >>> parse_caption('a small red circle')
  """
  text = ' '.join(text.lower().split())
  for pattern in _PATTERNS:
    found, end = [], 0
    for match in pattern.finditer(text):
      if not _BETWEEN.fullmatch(text, end, match.start()):
        break
      found.append(scenes.Object(**match.groupdict()))
      end = match.end()
    if found and _BETWEEN.fullmatch(text, end):
      return tuple(found)
  return None
