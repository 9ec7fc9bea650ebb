"""Contact sheets have every image and line in the right position."""

import numpy as np
import pytest
from PIL import ImageFont

from mmjax.data import contact_sheet

RED = np.full((5, 7, 3), (255, 0, 0), np.uint8)
BLUE = np.full((400, 300, 3), (0, 0, 255), np.uint8)


def _find_box(sheet, color):
  """Returns (left, top, right, bottom) of the pixels of a colour."""
  rows, columns = np.nonzero((np.asarray(sheet) == color).all(-1))
  return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_small_images_grow_by_a_whole_number_and_large_ones_shrink():
  sheet = contact_sheet.render([(RED, []), (BLUE, [])], image_size=100)
  left, top, right, bottom = _find_box(sheet, (255, 0, 0))
  assert (right - left, bottom - top) == (7 * 14, 5 * 14)
  left, top, right, bottom = _find_box(sheet, (0, 0, 255))
  assert (right - left, bottom - top) == (75, 100)


def test_cells_fill_rows():
  cells = [(RED, ['x'])] * 3
  one = contact_sheet.render(cells, columns=3)
  two = contact_sheet.render(cells, columns=2)
  assert two.width < one.width and two.height > one.height
  titled = contact_sheet.render(cells, columns=3, title='title')
  assert titled.width == one.width and titled.height > one.height


def test_lines_have_their_colours():
  lines = ['plain', ('right', contact_sheet.RIGHT), ('wrong', (200, 30, 40))]
  sheet = contact_sheet.render([(RED, lines)])
  _, right_top, _, right_bottom = _find_box(sheet, contact_sheet.RIGHT)
  _, wrong_top, _, _ = _find_box(sheet, contact_sheet.WRONG)
  assert right_top < right_bottom <= wrong_top


def test_long_lines_are_wrapped_without_loss():
  font = ImageFont.load_default(13)
  text = 'a word ' * 20 + 'W' * 50 + ' end'
  lines = contact_sheet._wrap(text, font, 90)
  assert all(font.getlength(line) <= 90 for line in lines)
  assert ''.join(lines).replace(' ', '') == text.replace(' ', '')


def test_images_may_be_absent_and_sheets_empty():
  contact_sheet.render([(None, ['no image'])])
  contact_sheet.render([])


def test_wrong_arguments():
  with pytest.raises(ValueError, match='undo the normalisation'):
    contact_sheet.render([(np.zeros((5, 7, 3), np.float32), [])])
  with pytest.raises(ValueError, match='columns 0'):
    contact_sheet.render([], columns=0)
