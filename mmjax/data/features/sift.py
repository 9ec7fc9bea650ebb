"""Images as bags of visual words."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from mmjax.data import images as image_files
from mmjax.data.features import base, images, vectors

DESCRIPTOR = 128  # Numbers of a descriptor: 4 x 4 cells of 8 orientations.
# Number of training images that the words are learned from, the first ones.
_FITTED = 500
# Below it, scikit-image has no octave.
_SMALLEST = 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sift(vectors.UnitVector, images.StoredImage):
  """How often each visual word occurs in an image, by scikit-image.

  A bag of keypoints (Csurka et al. 2004): SIFT (Lowe 2004) finds keypoints of
  the grey image at any scale and describes each; a descriptor counts as the
  nearest of D words, which k-means of scikit-learn finds among those of the
  first 500 training images. Descriptors and counts are square-rooted (RootSIFT,
  Arandjelovic and Zisserman 2012). The vector is scaled to unit length. Where
  keypoints are doesn't matter. The array is float32 [D], its mask bool []. An
  image without a keypoint is zeros.

  Attributes:
    size: (height, width), or one number for both, in pixels.
    resize: 'stretch', 'crop' or 'pad', as in `mmjax.data.images.resize`.
    augment: augmentations in training, as of `Image`.
    words: D, number of words to learn.
    centers: the words, D rows of 128 numbers; None for those of the training
      records.
  """

  kind: ClassVar[str] = 'sift'
  library: ClassVar[str] = 'skimage.feature'
  package: ClassVar[str] = 'scikit-image'
  encoder_settings: ClassVar[tuple[str, ...]] = (
    'size',
    'resize',
    'words',
    'centers',
  )

  words: int = 64
  centers: Sequence | None = None

  def __post_init__(self):
    super().__post_init__()
    if min(self.shape[:2]) < _SMALLEST:
      self.refuse('size', f'is too small for SIFT: at least {_SMALLEST}')
    if self.words < 1:
      self.refuse('words', 'is not legal: at least 1')
    if self.centers is None:
      return
    if len(self.centers) != self.words:
      self.refuse('words', f'is not the number of centers, {len(self.centers)}')
    if not all(
      isinstance(row, tuple)
      and len(row) == DESCRIPTOR
      and base.are_numbers(row)
      for row in self.centers
    ):
      self.refuse(
        'centers', f'is not legal: rows of {DESCRIPTOR} finite numbers'
      )

  @property
  def is_fitted(self) -> bool:
    return self.centers is not None

  @property
  def width(self) -> int:
    return self.words

  def fit(self, source: Any) -> 'Sift':
    if self.is_fitted:
      return self
    found, count = [], 0
    for value in self.iterate_values(source):
      if value is not None:
        found.append(self._describe(image_files.decode(value)))
        count += 1
      if count == _FITTED:
        break
    number = sum(map(len, found))
    if number < self.words:
      self.refuse(
        'words',
        f'is more than the {number} keypoints of {count} training images; use '
        'fewer words, or a larger size',
      )
    # An import of scikit-learn takes a second, and only fitting needs it.
    cluster = self._import_library('sklearn.cluster', 'scikit-learn')
    means = cluster.MiniBatchKMeans(self.words, n_init=3, random_state=0)
    means.fit(np.concatenate(found))
    rows = np.round(means.cluster_centers_.astype(np.float64), 4)
    return dataclasses.replace(self, centers=tuple(map(tuple, rows.tolist())))

  def _make_example(self, image: np.ndarray) -> base.Example:
    descriptors = self._describe(image)
    words = self._table  # [D, 128]
    # Squared distances but for what is equal for all words.
    distances = np.square(words).sum(axis=1) - 2 * descriptors @ words.T
    nearest = distances.argmin(axis=1)
    counts = np.bincount(nearest, minlength=self.words)
    return self._make_unit(np.sqrt(counts))

  def _describe(self, image: np.ndarray) -> np.ndarray:
    """Descriptors of an image's keypoints [K, 128], of unit length."""
    image = image_files.resize(image, self.shape[:2], self.resize)
    # The weights of ITU-R BT.709, as those of `skimage.color.rgb2gray`.
    grey = image @ np.array([0.2125, 0.7154, 0.0721]) / 255
    detector = self._import_library().SIFT()
    try:
      detector.detect_and_extract(grey)
    except RuntimeError:  # It found no keypoint.
      return np.zeros((0, DESCRIPTOR))
    found = detector.descriptors.astype(np.float64)
    return np.sqrt(found / np.maximum(found.sum(axis=1, keepdims=True), 1))

  @functools.cached_property
  def _table(self) -> np.ndarray:
    return np.array(self.centers)
