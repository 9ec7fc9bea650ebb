"""Contact sheets: a grid of images with lines of text under each."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmjax.errors import ConfigError

# A line of text, or (line, colour).
Line = str | tuple[str, str | tuple[int, int, int]]
Cell = tuple[np.ndarray | None, Sequence[Line]]

# Colours of lines that are right, wrong or secondary.
RIGHT = (22, 128, 60)
WRONG = (200, 30, 40)
QUIET = (120, 120, 128)

_PAPER = (250, 250, 251)
_CARD = (255, 255, 255)
_EDGE = (222, 222, 228)
_INK = (28, 28, 32)
_PADDING = 8
_GAP = 10
_MARGIN = 16
_LEADING = 1.3  # Distance between lines in font sizes.


def render(
  cells: Sequence[Cell],
  *,
  columns: int = 6,
  title: str = '',
  image_size: int = 160,
  font_size: int = 13,
  max_height: int | None = None,
) -> Image.Image:
  """Draws a grid of cards, each an image with lines of text below it.

  Small images are enlarged by a whole factor without smoothing, large ones are
  reduced; both keep their proportions. Long lines are wrapped.

  Args:
    cells: for each card an image [H, W, 3] uint8 (None for a placeholder) and
      its lines of text, each a string or a (string, colour) pair.
    columns: number of cards in a row, at least 1.
    title: heading of the sheet; '' for none.
    image_size: width and height in pixels of the square that images fit into.
    font_size: height of the text in pixels.
    max_height: height in pixels that images may have instead, where they are
      higher than wide; None for the square's.

  Returns:
    The sheet in RGB.

  Raises:
    ConfigError: if columns is below 1, or an image is not [H, W, 3] uint8.
  """
  if columns < 1:
    raise ConfigError(f'columns {columns} should be at least 1')
  font = ImageFont.load_default(font_size)
  box = image_size, max_height or image_size
  cards = [_draw_card(image, lines, box, font) for image, lines in cells]
  columns = max(1, min(columns, len(cards)))
  rows = [cards[i : i + columns] for i in range(0, len(cards), columns)]
  heading = ImageFont.load_default(round(font_size * 1.5))
  wrapped = []
  width = columns * (image_size + 2 * _PADDING + _GAP) - _GAP + 2 * _MARGIN
  if title:
    wrapped = _wrap(title, heading, width - 2 * _MARGIN)
  line = round(heading.size * _LEADING)
  top = _MARGIN + len(wrapped) * line + (_GAP if wrapped else 0)
  heights = [max(card.height for card in row) for row in rows]
  height = top + sum(heights) + _GAP * max(0, len(rows) - 1) + _MARGIN
  sheet = Image.new('RGB', (width, height), _PAPER)
  pen = ImageDraw.Draw(sheet)
  for i, text in enumerate(wrapped):
    pen.text((_MARGIN, _MARGIN + i * line), text, fill=_INK, font=heading)
  for row, row_height in zip(rows, heights, strict=True):
    for i, card in enumerate(row):
      left = _MARGIN + i * (card.width + _GAP)
      edges = (left, top, left + card.width - 1, top + row_height - 1)
      pen.rectangle(edges, fill=_CARD)
      sheet.paste(card, (left, top))
      pen.rounded_rectangle(edges, radius=6, outline=_EDGE)
    top += row_height + _GAP
  return sheet


def _draw_card(
  image: np.ndarray | None,
  lines: Sequence[Line],
  box: tuple[int, int],
  font: ImageFont.FreeTypeFont,
) -> Image.Image:
  size, height = box[0], box[0]
  if image is not None:
    resized = _fit(image, box)
    height = max(size, resized.height)
  texts = []
  for line in lines:
    text, color = (line, _INK) if isinstance(line, str) else line
    texts += [(piece, color) for piece in _wrap(text, font, size)]
  leading = round(font.size * _LEADING)
  below = 2 * _PADDING + height
  card_height = below + _PADDING + leading * len(texts)
  card = Image.new('RGB', (size + 2 * _PADDING, card_height), _CARD)
  pen = ImageDraw.Draw(card)
  if image is None:
    edges = (_PADDING, _PADDING, _PADDING + size - 1, _PADDING + size - 1)
    pen.rectangle(edges, fill=_PAPER, outline=_EDGE)
    pen.text(
      (_PADDING + size / 2, _PADDING + size / 2),
      'no image',
      fill=QUIET,
      font=font,
      anchor='mm',
    )
  else:
    left = _PADDING + (size - resized.width) // 2
    card.paste(resized, (left, _PADDING + (height - resized.height) // 2))
  for i, (text, color) in enumerate(texts):
    position = (_PADDING, below + i * leading - 2)
    pen.text(position, text, fill=color, font=font)
  return card


def _fit(image: np.ndarray, box: tuple[int, int]) -> Image.Image:
  """Resizes an image to fit a box of (width, height) pixels."""
  image = np.asarray(image)
  if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
    raise ConfigError(
      f'an image should be [H, W, 3] uint8, not {list(image.shape)} '
      f'{image.dtype}; undo the normalisation before drawing it'
    )
  resized = Image.fromarray(image)
  factor = min(box[0] // resized.width, box[1] // resized.height)
  if not factor:
    resized.thumbnail(box, Image.Resampling.LANCZOS)
    return resized
  return resized.resize(
    (resized.width * factor, resized.height * factor),
    Image.Resampling.NEAREST,
  )


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
  """Breaks a text into lines that fit; breaks only words that are too long."""
  lines = []
  for paragraph in text.split('\n'):
    line = ''
    for word in paragraph.split():
      trial = f'{line} {word}' if line else word
      if font.getlength(trial) <= width:
        line = trial
        continue
      if line:
        lines.append(line)
      line = word
      while font.getlength(line) > width:
        cut = len(line) - 1
        while cut > 1 and font.getlength(line[:cut]) > width:
          cut -= 1
        lines.append(line[:cut])
        line = line[cut:]
    lines.append(line)
  return lines
