"""Fields of one image that keeps its aspect ratio."""

import dataclasses
import fractions
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import einops
import numpy as np

from mmjax.data import augment as augmentations
from mmjax.data import contact_sheet
from mmjax.data import images as image_files
from mmjax.data.features import base, images
from mmjax.ops import packing


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlexibleImage(base.Feature):
  """An encoded image of any aspect ratio, for a `FlexibleViT` or `PackedViT`.

  It is resized to the most patches that a budget allows, its aspect ratio kept
  but for rounding (NaFlex of SigLIP 2, Tschannen et al. 2025, section 2.4.2;
  NaViT, Dehghani et al. 2023). Of N patches of P numbers, rows first: uint8
  [N, P], `NAME_grid` int32 [2], rows and columns, and the mask bool [N], where
  padding comes last. A model reads float32 [N, P], normalised, zeros where the
  mask is False.

  Attributes:
    tokens: N, most patches of an image, in evaluation and, without `lengths`,
      in training.
    lengths: in training, the N of a batch is one of these, drawn by seed and
      number of the batch; () for `tokens`. The step is compiled for each.
    constant_tokens: whether batches of shorter `lengths` have more examples: as
      many as have the tokens of `train.batch_size` examples of the longest.
    patch_size: side of a patch in pixels.
    multiple: number that rows and columns are divisible by, `merge_size` of a
      `PackedViT`.
    augment: augmentations in training, in order, as in `mmjax.data.augment`. An
      image is not mirrored where a text of the record says left or right.
    mean: mean of each channel, in 0..1, which is subtracted.
    std: standard deviation of each channel, by which it is divided.
    scaled_decoding: whether training decodes large JPEGs at a fraction of their
      size, as of `Image`.
  """

  kind: ClassVar[str] = 'flexible_image'
  field_kinds: ClassVar[tuple[str, ...]] = ('image',)
  is_large: ClassVar[bool] = True
  word: ClassVar[str] = 'an image'
  training_only: ClassVar[tuple[str, ...]] = (
    'augment',
    'lengths',
    'constant_tokens',
    'scaled_decoding',
  )
  encoder_settings: ClassVar[tuple[str, ...]] = (
    'patch_size',
    'multiple',
    'mean',
    'std',
  )

  tokens: int = 256
  lengths: Sequence = ()
  constant_tokens: bool = False
  patch_size: int = 16
  multiple: int = 1
  augment: Sequence = ()
  mean: Sequence = images.HALF
  std: Sequence = images.HALF
  scaled_decoding: bool = False

  def __post_init__(self):
    super().__post_init__()
    augmentations.check(self.augment)
    images.check_normalisation(self)
    for setting in ('patch_size', 'multiple'):
      if getattr(self, setting) < 1:
        self.refuse(setting, 'is not legal: at least 1')
    unit = self.multiple**2
    for setting in ('tokens', 'lengths'):
      value = getattr(self, setting)
      numbers = (value,) if setting == 'tokens' else value
      legal = all(type(n) is int and n > 0 and n % unit == 0 for n in numbers)
      if setting == 'lengths' and len(numbers) == 1 and legal:
        self.refuse(setting, 'has one length; set it as `tokens`')
      if not legal or len(set(numbers)) < len(numbers):
        kind = {
          'tokens': 'a whole number above 0, a multiple',
          'lengths': 'different whole numbers above 0, multiples',
        }
        self.refuse(
          setting, f'is not legal; use {kind[setting]} of {unit} (multiple**2)'
        )
    if self.constant_tokens and not self.lengths:
      self.refuse(
        'constant_tokens',
        'is for batches of several lengths; set `lengths` or leave it out',
      )

  @property
  def encoded_as(self) -> str:
    return 'image'

  def list_keys(self) -> tuple[str, ...]:
    return (*super().list_keys(), f'{self.name}_grid')

  def list_variants(self) -> Sequence[tuple[base.Feature, fractions.Fraction]]:
    if not self.lengths:
      return super().list_variants()
    longest = max(self.lengths)
    of_one = {'lengths': (), 'constant_tokens': False}
    return tuple(
      (
        dataclasses.replace(self, tokens=number, **of_one),
        fractions.Fraction(longest if self.constant_tokens else number, number),
      )
      for number in self.lengths
    )

  @classmethod
  def explain_fault(cls, value: Any) -> str:
    return images.Image.explain_fault(value)

  def make_arrays(
    self, chosen: bytes, rng: np.random.Generator | None, *, flips: bool
  ) -> base.Example:
    least = None
    if rng is not None and self.scaled_decoding:
      factor = augmentations.find_crop_factor(self.augment)
      size = self._fit_size(*image_files.read_size(chosen))
      least = (factor * size[0], factor * size[1])
    image = image_files.decode(chosen, least)
    size = self._fit_size(*image.shape[:2])
    if rng is not None and self.augment:
      # A crop comes first and uses the image's full resolution.
      if self.augment[0]['name'] != 'random_resized_crop':
        image = image_files.resize(image, size)
      image = augmentations.apply(
        image, rng, self.augment, size=size, flips=flips
      )
    return self._cut(image, size)

  def make_absent(self, rng: np.random.Generator | None = None):
    del rng
    return self._pad(np.zeros((0, 3 * self.patch_size**2), np.uint8), (0, 0))

  def prepare(self, value: Any) -> base.Example:
    image = image_files.to_array(value)
    return self._cut(image, self._fit_size(*image.shape[:2]))

  def make_inputs(self, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Normalises the patches of a batch; padding becomes zeros."""
    pixels, mask = batch[self.name], batch[f'{self.name}_mask']
    channels = pixels.reshape(*pixels.shape[:-1], -1, 3)
    values = image_files.normalise(channels, self.mean, self.std)
    rows = values.reshape(pixels.shape)
    return {self.name: rows * mask[..., None].astype(np.float32)}

  @classmethod
  def render(cls, value: bytes) -> contact_sheet.Cell:
    return image_files.decode(value), []

  def _fit_size(self, height: int, width: int) -> tuple[int, int]:
    return packing.fit_tokens(
      height,
      width,
      self.patch_size * self.multiple,
      self.tokens // self.multiple**2,
    )

  def _cut(self, image: np.ndarray, size: tuple[int, int]) -> base.Example:
    """Cuts an image uint8 [H, W, 3], brought to a size, into patches."""
    image = image_files.resize(image, size)
    side = self.patch_size
    patches = einops.rearrange(
      image, '(r p) (c q) d -> (r c) (p q d)', p=side, q=side
    )
    return self._pad(patches, (image.shape[0] // side, image.shape[1] // side))

  def _pad(self, patches: np.ndarray, grid: tuple[int, int]) -> base.Example:
    """Arrays of N patches, the first ones of which are `patches`."""
    array = np.zeros((self.tokens, patches.shape[1]), np.uint8)
    array[: len(patches)] = patches
    return {
      self.name: array,
      f'{self.name}_mask': np.arange(self.tokens) < len(patches),
      f'{self.name}_grid': np.asarray(grid, np.int32),
    }
