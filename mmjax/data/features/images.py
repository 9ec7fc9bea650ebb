"""Fields of one image, or of several."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from etils import epy

from mmjax.data import augment as augmentations
from mmjax.data import contact_sheet, file_paths
from mmjax.data import images as image_files
from mmjax.data.features import base, several
from mmjax.errors import ConfigError

with epy.lazy_imports():  # Slow to import.
  import tensorflow_datasets as tfds

HALF = (0.5, 0.5, 0.5)
_GRID_HEIGHT = 96


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredImage(base.Feature):
  """An encoded image, resized, of which a subclass makes the array.

  Attributes:
    size: (height, width), or one number for both, in pixels.
    resize: 'stretch', 'crop' or 'pad', as in `mmjax.data.images.resize`.
    augment: augmentations in training, in order, as in `mmjax.data.augment`. An
      image is not mirrored where a text of the record says left or right.
  """

  field_kinds: ClassVar[tuple[str, ...]] = ('image',)
  is_large: ClassVar[bool] = True
  word: ClassVar[str] = 'an image'
  training_only: ClassVar[tuple[str, ...]] = ('augment',)

  size: int | Sequence = 32
  resize: str = 'stretch'
  augment: Sequence = ()

  def __post_init__(self):
    if not isinstance(self.augment, str):
      super().__post_init__()
    augmentations.check(
      (self.augment,) if isinstance(self.augment, str) else self.augment
    )
    if self.resize not in image_files.RESIZE_METHODS:
      self.refuse('resize', f'is unknown; use {image_files.RESIZE_METHODS}')
    is_whole = all(type(number) is int for number in self.shape)
    if not is_whole or len(self.shape) != 3 or min(self.shape) < 1:
      self.refuse('size', 'is not legal: one number, or (height, width)')

  @classmethod
  def make_storage(cls) -> 'tfds.features.FeatureConnector':
    return tfds.features.Image(shape=(None, None, 3))

  @classmethod
  def pack(cls, value: bytes | None) -> bytes:
    return value or b''

  @classmethod
  def unpack(cls, raw: Any) -> bytes | None:
    return bytes(raw) or None

  @classmethod
  def explain_fault(cls, value: Any) -> str:
    is_right = isinstance(value, bytes)
    return '' if is_right else several.describe_wrong(value, 'bytes')

  @property
  def shape(self) -> tuple[int, ...]:
    """(H, W, 3) of the resized image."""
    size = self.size
    return (size, size, 3) if isinstance(size, int) else (*size, 3)

  def make_arrays(
    self, chosen: bytes, rng: np.random.Generator | None, *, flips: bool
  ) -> base.Example:
    image = self._augment(self._decode(chosen, rng), rng, flips=flips)
    return self._make_example(image)

  def prepare(self, value: Any) -> base.Example:
    return self._make_example(image_files.to_array(value))

  @classmethod
  def render(cls, value: bytes) -> contact_sheet.Cell:
    return image_files.decode(value), []

  def _decode(self, data: bytes, rng: np.random.Generator | None) -> np.ndarray:
    """Decodes an image; in training perhaps at a fraction of its size."""
    del rng
    return image_files.decode(data)

  def _augment(
    self, image: np.ndarray, rng: np.random.Generator | None, *, flips: bool
  ) -> np.ndarray:
    if rng is None or not self.augment:
      return image
    size = self.shape[:2]
    # A crop comes first and uses the image's full resolution.
    if self.augment[0]['name'] != 'random_resized_crop':
      image = image_files.resize(image, size, self.resize)
    return augmentations.apply(image, rng, self.augment, size=size, flips=flips)

  def _make_example(self, image: np.ndarray) -> base.Example:
    """Makes the arrays of an image, uint8 [H, W, 3] of any size."""
    raise NotImplementedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Image(StoredImage):
  """An encoded image, as an array that is normalised on the device.

  The array is uint8 [H, W, 3], its mask bool []. A model reads float32, zeros
  where the mask is False. Training batches of data whose records all have the
  field have no mask.

  Attributes:
    size: (height, width), or one number for both, in pixels.
    resize: 'stretch', 'crop' or 'pad', as in `mmjax.data.images.resize`.
    augment: augmentations in training, in order, as in `mmjax.data.augment`. An
      image is not mirrored where a text of the record says left or right.
    mean: mean of each channel, in 0..1, which is subtracted.
    std: standard deviation of each channel, by which it is divided.
    scaled_decoding: whether training decodes large JPEGs at a fraction of their
      size, with at least the pixels that the result and the smallest crop need;
      faster, with slightly other pixels.
  """

  kind: ClassVar[str] = 'image'
  training_only: ClassVar[tuple[str, ...]] = ('augment', 'scaled_decoding')
  encoder_settings: ClassVar[tuple[str, ...]] = (
    'size',
    'resize',
    'mean',
    'std',
  )
  mask_is_optional: ClassVar[bool] = True

  mean: Sequence = HALF
  std: Sequence = HALF
  scaled_decoding: bool = False

  def __post_init__(self):
    super().__post_init__()
    check_normalisation(self)

  def _decode(self, data: bytes, rng: np.random.Generator | None) -> np.ndarray:
    if rng is None or not self.scaled_decoding:
      return image_files.decode(data)
    factor = augmentations.find_crop_factor(self.augment)
    return image_files.decode(
      data, (factor * self.shape[0], factor * self.shape[1])
    )

  def make_absent(self, rng: np.random.Generator | None = None):
    del rng
    return {
      self.name: np.zeros(self.shape, np.uint8),
      f'{self.name}_mask': np.bool_(False),
    }

  def make_inputs(self, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Normalises the images of a batch; absent ones become zeros.

    Raises:
      ValueError: if they are not uint8, as those of a subclass may be.
    """
    pixels, mask = batch[self.name], batch.get(f'{self.name}_mask')
    if pixels.dtype != np.uint8:
      raise ValueError(
        f'the array {self.name!r} is {pixels.dtype}, but '
        f'{type(self).__name__}.make_inputs normalises uint8; a feature that '
        'makes other arrays of images needs a make_inputs of its own'
      )
    if mask is None:
      return {self.name: self.normalise(pixels)}
    present = mask.reshape(mask.shape + (1,) * (pixels.ndim - mask.ndim))
    return {self.name: self.normalise(pixels) * present.astype(np.float32)}

  def normalise(self, pixels: Any) -> Any:
    """Normalises images, as `mmjax.data.images.normalise`.

    Args:
      pixels: uint8 [..., H, W, 3]; in training a traced array.

    Returns:
      float32 [..., H, W, 3].
    """
    return image_files.normalise(pixels, self.mean, self.std)

  def _resize(self, image: np.ndarray) -> np.ndarray:
    return image_files.resize(image, self.shape[:2], self.resize)

  def _make_example(self, image: np.ndarray) -> base.Example:
    return {
      self.name: self._resize(image),
      f'{self.name}_mask': np.bool_(True),
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Images(several.StoredFiles, Image):
  """Several encoded images, as an array that is normalised on the device.

  The array is uint8 [n, H, W, 3], its mask bool [n]. A model reads float32. A
  field of one image is read as a list of it.

  Attributes:
    number: n; of more images, the first n are used. Conversations are refused
      instead; where they are packed, it is the number in a row.
    size: height and width in pixels; one number for both.
    resize: how images become that size, one of the ways of `Image`.
    mean: mean of each channel that is subtracted, of values in 0..1.
    std: standard deviation of each channel, by which values are divided.
    scaled_decoding: whether JPEGs are decoded at a smaller scale.
    augment: augmentations in training, drawn for each image by itself.
  """

  kind: ClassVar[str] = 'images'
  mask_is_optional: ClassVar[bool] = False
  field_kinds: ClassVar[tuple[str, ...]] = ('images', 'image')
  word: ClassVar[str] = 'images'
  encoder_settings: ClassVar[tuple[str, ...]] = (
    'number',
    *Image.encoder_settings,
  )

  number: int = 4

  def __post_init__(self):
    super().__post_init__()
    if self.number < 1:
      self.refuse('number', 'is not legal: at least 1')

  def get(self, record: Mapping[str, Any]) -> list[bytes] | None:
    value = super().get(record)
    return [value] if isinstance(value, bytes) else value

  def join(self, examples: Sequence[base.Example]) -> base.Example:
    parts = [part[self.name][part[f'{self.name}_mask']] for part in examples]
    return self._stack_rows(np.concatenate(parts))

  def make_arrays(
    self, chosen: Sequence[bytes], rng: np.random.Generator | None, *, flips
  ) -> base.Example:
    return self._stack(
      [
        self._augment(self._decode(data, rng), rng, flips=flips)
        for data in chosen[: self.number]
      ]
    )

  def make_absent(self, rng: np.random.Generator | None = None):
    return self._stack([])

  def prepare(self, value: Any) -> base.Example:
    values = list(value) if isinstance(value, list | tuple) else [value]
    if not values:
      raise ConfigError(f'{self.name} is one image or more, not an empty list')
    return self._stack(
      [image_files.to_array(item) for item in values[: self.number]]
    )

  @classmethod
  def render(cls, value: Sequence[bytes]) -> contact_sheet.Cell:
    return render_grid([image_files.decode(item) for item in value]), []

  def _stack(self, images: Sequence[np.ndarray]) -> base.Example:
    resized = [self._resize(image) for image in images]
    return self._stack_rows(np.reshape(resized, (-1, *self.shape)))

  def _stack_rows(self, rows: np.ndarray) -> base.Example:
    """Makes the arrays of resized images, [at most n, H, W, 3]."""
    array = np.zeros((self.number, *self.shape), np.uint8)
    array[: len(rows)] = rows
    mask = np.arange(self.number) < len(rows)
    return {self.name: array, f'{self.name}_mask': mask}


def check_normalisation(feature: base.Feature) -> None:
  """Refuses a `mean` or `std` that are not those of three channels."""
  for setting in ('mean', 'std'):
    numbers = getattr(feature, setting)
    if len(numbers) != 3 or not base.are_numbers(numbers):
      feature.refuse(setting, 'is not legal: three numbers')
  if min(feature.std) <= 0:
    feature.refuse('std', 'is not legal: images are divided by it')


def render_grid(images: Sequence[np.ndarray], most: int = 4) -> np.ndarray:
  """Puts images uint8 [H, W, 3] in rows of two, all of the first one's shape.

  Args:
    images: images, at least one.
    most: number of images, spread over all.
  """
  count = min(most, len(images))
  chosen = np.linspace(0, len(images) - 1, count).astype(int)
  height, width = images[0].shape[:2]
  size = (_GRID_HEIGHT, max(1, round(width * _GRID_HEIGHT / height)))
  cells = [image_files.resize(images[i], size, 'pad') for i in chosen]
  if len(cells) > 2 and len(cells) % 2:
    cells.append(np.full_like(cells[0], 255))
  rows = [np.concatenate(cells[i : i + 2], 1) for i in range(0, len(cells), 2)]
  return np.concatenate(rows)


def read_file(value: Any, kind: str) -> bytes | None:
  """Reads the bytes of a path; None for anything but a path.

  Args:
    value: what a person passes.
    kind: what it is, for the message.

  Raises:
    ConfigError: if it is the path of a file that can't be read.
  """
  if not isinstance(value, str | os.PathLike):
    return None
  return file_paths.read_bytes(value, kind)
