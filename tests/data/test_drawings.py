"""Drawings show what they are of."""

import numpy as np
import pytest

from mmjax.data import contact_sheet, drawings

SIZE = drawings.SIZE


def test_a_higher_tone_is_higher_in_the_spectrogram():
  time = np.arange(8000) / 8000
  rows = []
  for hertz in (500, 3000):
    image = drawings.draw_sound(np.sin(2 * np.pi * hertz * time))
    assert image.shape == (SIZE, SIZE, 3)
    power = image[SIZE // 3 :].sum(axis=2, dtype=int).sum(axis=1)
    rows.append(1 - np.argmax(power) / len(power))
  # In fractions of half the sample rate, up to a row.
  np.testing.assert_allclose(rows, [500 / 4000, 3000 / 4000], atol=0.02)


def test_silence_is_dark():
  image = drawings.draw_sound(np.zeros(5000))
  assert image[SIZE // 3 :].max() < 80
  assert drawings.draw_sound(np.zeros(1)).shape == (SIZE, SIZE, 3)


def test_a_waveform_has_no_gaps():
  image = drawings.draw_sound(np.sin(np.arange(300) / 3))[: SIZE // 3]
  is_ink = image[..., 0] < 100
  assert is_ink.any(axis=0).all()
  # Neighbouring columns touch.
  for x in range(1, SIZE):
    rows = np.flatnonzero(is_ink[:, x])
    before = np.flatnonzero(is_ink[:, x - 1])
    assert rows.min() <= before.max() + 1 and before.min() <= rows.max() + 1


@pytest.mark.parametrize('value', [np.ones((1, 1)), np.zeros((7, 9))])
def test_degenerate_values_are_drawn(value):
  assert drawings.draw_series(value).shape == (SIZE, SIZE, 3)
  assert drawings.draw_points(np.ones((2, 3))).shape == (SIZE, 2 * SIZE, 3)


def test_high_drawings_keep_the_width_of_a_card():
  image = np.zeros((500, 100, 3), np.uint8)
  low = contact_sheet.render([(image, [])], image_size=100)
  high = contact_sheet.render([(image, [])], image_size=100, max_height=900)
  assert high.width == low.width and high.height == low.height + 400
