import numpy as np
import pytest

from mmjax.data import features
from mmjax.data.features import hog
from mmjax.errors import ConfigError

EDGE = np.repeat((np.arange(16) >= 8)[None] * np.uint8(200), 16, axis=0)


@pytest.mark.parametrize(
  ('edge', 'orientation'), [(EDGE, 0), (EDGE.T, 4), (np.triu(EDGE * 0 + 9), 6)]
)
def test_an_edge_is_in_the_bin_of_its_gradient(edge, orientation):
  feature = features.Hog(name='x', size=16)
  made = feature.prepare(np.repeat(edge[:, :, None], 3, axis=2))['x']
  cells = made.reshape(4, 9)  # One block of 2 x 2 cells, 20 degrees a bin.
  assert np.all(cells.argmax(axis=1)[[0, 3]] == orientation)
  np.testing.assert_allclose(np.linalg.norm(made), 1, rtol=1e-6)
  if orientation != 6:  # All cells have the same, and nothing else.
    expected = np.zeros((4, 9))
    expected[:, orientation] = 0.5
    np.testing.assert_allclose(cells, expected, rtol=1e-6)


def test_an_image_without_gradient_is_zeros():
  made = features.Hog(name='x', size=16).prepare(
    np.full((5, 7, 3), 9, np.uint8)
  )
  assert not made['x'].any() and made['x_mask']


def test_a_missing_library_is_named(monkeypatch):
  monkeypatch.setattr(hog.Hog, 'library', 'skimage_that_is_missing')
  with pytest.raises(ConfigError, match=r"'hog' needs .*'mmjax\[classical\]'"):
    features.Hog(name='x', size=16)
