"""Writes and parses captions of the `shapes` data set.

Every caption names the size, colour, shape and position of every object in
reading order, so it determines its scene.
"""

import re

from mmjax.data import shapes_scenes as scenes

_POSITION_PHRASES = {
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
_POSITION_PHRASE = rf'(?:in|on|at) the {_POSITION}\b'
# One pattern of an object for each form of caption in `write_captions`.
_PATTERNS = tuple(
  re.compile(pattern)
  for pattern in (
    rf'\ba {_SIZE} {_COLOR} {_SHAPE} {_POSITION_PHRASE}',
    rf'\b{_POSITION_PHRASE} (?:there is )?a {_SIZE} {_COLOR} {_SHAPE}\b',
    rf'\bthe {_SHAPE} {_POSITION_PHRASE} is {_SIZE} and {_COLOR}\b',
    rf'\b{_POSITION}: {_SIZE} {_COLOR} {_SHAPE}\b',
  )
)
_SEPARATORS = re.compile(r'(?:,|;|\.|\band\b|\s)*')


def write_captions(scene: scenes.Scene) -> list[str]:
  """Writes four sentences, each a full description of the scene.

  >>> for line in write_captions(
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
  plain, position_first, subject_first, as_list = [], [], [], []
  for size, color, shape, position in scene:
    phrase = _POSITION_PHRASES[position]
    there_is = '' if position_first else 'there is '
    plain.append(f'a {size} {color} {shape} {phrase}')
    position_first.append(f'{phrase} {there_is}a {size} {color} {shape}')
    subject_first.append(f'the {shape} {phrase} is {size} and {color}')
    as_list.append(f'{position}: {size} {color} {shape}')
  first = ', '.join(plain[:-1])
  return [
    f'{first} and {plain[-1]}' if first else plain[-1],
    ', '.join(position_first),
    ', '.join(subject_first),
    '; '.join(as_list),
  ]


def parse_caption(text: str) -> scenes.Scene | None:
  """Parses the objects that a caption names, in its order.

  Args:
    text: a caption in any of the four forms; case and spaces are ignored.

  Returns:
    The objects, or None if the text is not entirely object descriptions of one
    form.

  >>> parse_caption('a small red circle at the top left')
  (Object(size='small', color='red', shape='circle', position='top left'),)
  >>> parse_caption('a small red circle')
  """
  text = ' '.join(text.lower().split())
  for pattern in _PATTERNS:
    objects, end = [], 0
    for match in pattern.finditer(text):
      if not _SEPARATORS.fullmatch(text, end, match.start()):
        break
      objects.append(scenes.Object(**match.groupdict()))
      end = match.end()
    if objects and _SEPARATORS.fullmatch(text, end):
      return tuple(objects)
  return None
