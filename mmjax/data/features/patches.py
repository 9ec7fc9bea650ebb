"""Fields of images that keep their size and aspect ratio, as patches."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from mmjax.data import contact_sheet
from mmjax.data import images as image_files
from mmjax.data.features import base, images, several
from mmjax.errors import ConfigError
from mmjax.ops import packing


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patches(several.Several, base.Feature):
  """Encoded images of any size, cut into patches for a `PackedViT`.

  Each is resized to the nearest size in whole tokens with an allowed number of
  pixels, as for Qwen2-VL (Wang et al. 2024, section 2.1), and all share one
  row of S patches of P numbers: uint8 [S, P], one frame of each, with
  `NAME_positions` int32 [S, 2], `NAME_segments` int32 [S] from 1 on, with
  windows `NAME_windows` int32 [S], and the mask bool [S]. A model reads float32
  [S, temporal_patch_size * P], normalised, zeros where the mask is False.

  Attributes:
    tokens: most tokens of the images of a row; each is `merge_size ** 2` of the
      S patches.
    min_pixels: smallest number of pixels of an image after the resize.
    max_pixels: largest number of pixels of an image after the resize.
    patch_size: side of a patch in pixels.
    merge_size: side, in patches, of the square that becomes one token.
    temporal_patch_size: how often the model reads each patch, as frames of a
      video.
    window: side of a window in tokens; 0 for none.
    mean: mean of each channel, in 0..1, which is subtracted.
    std: standard deviation of each channel, by which it is divided.
  """

  kind: ClassVar[str] = 'patches'
  field_kinds: ClassVar[tuple[str, ...]] = ('image', 'images')
  is_large: ClassVar[bool] = True
  word: ClassVar[str] = 'images'
  encoder_settings: ClassVar[tuple[str, ...]] = (
    'patch_size',
    'merge_size',
    'temporal_patch_size',
    'window',
    'mean',
    'std',
  )

  tokens: int = 1024
  min_pixels: int = 56 * 56
  max_pixels: int = 28 * 28 * 1280
  patch_size: int = 14
  merge_size: int = 2
  temporal_patch_size: int = 2
  window: int = 0
  mean: Sequence = images.HALF
  std: Sequence = images.HALF

  def __post_init__(self):
    super().__post_init__()
    images.check_normalisation(self)
    for setting in (
      'tokens',
      'patch_size',
      'merge_size',
      'temporal_patch_size',
    ):
      if getattr(self, setting) < 1:
        self.refuse(setting, 'is not legal: at least 1')
    if self.window < 0:
      self.refuse('window', 'is not legal: 0 for none, or a number of tokens')
    if not 0 < self.min_pixels <= self.max_pixels:
      self.refuse('min_pixels', f'is not in 1..max_pixels, {self.max_pixels}')

  @classmethod
  def explain_fault(cls, value: Any) -> str:
    kind = images.Images if isinstance(value, list) else images.Image
    return kind.explain_fault(value)

  def get(self, record: Mapping[str, Any]) -> list[Any] | None:
    value = super().get(record)
    return value if value is None or isinstance(value, list) else [value]

  @property
  def stored_frames(self) -> int:
    """Number of frames in a patch of the arrays, all or one."""
    return 1

  def list_keys(self) -> tuple[str, ...]:
    names = ('positions', 'segments', *(('windows',) if self.window else ()))
    return (*super().list_keys(), *(f'{self.name}_{name}' for name in names))

  def find_grids(self, values: Sequence[Any]) -> list[packing.Grid]:
    """The grid of tokens of each image.

    Args:
      values: encoded images, or uint8 [H, W, 3].

    Raises:
      ConfigError: if one is not an image, or far longer than broad.
    """
    grids, side = [], self.patch_size * self.merge_size
    for value in values:
      encoded = isinstance(value, bytes)
      size = image_files.read_size(value) if encoded else value.shape[:2]
      height, width = self._fit_size(*size)
      grids.append(packing.Grid(1, height // side, width // side))
    return grids

  def list_parts(self, value: Any) -> list[tuple[str, packing.Grid]]:
    """What stands for one in a conversation: the text before it, and its grid.

    Of a video, each step may stand for itself.

    Args:
      value: as of `find_grids`.
    """
    return [('', grid) for grid in self.find_grids([value])]

  def join(self, examples: Sequence[base.Example]) -> base.Example:
    """Joins rows; segments and windows count on.

    Of one image of four patches and one of eight, where S is 16:

      segments  1 1 1 1 0 ... and 1 1 1 1 1 1 1 1 0 ...
      joined    1 1 1 1 2 2 2 2 2 2 2 2 0 0 0 0
    """
    rows: dict[str, list[np.ndarray]] = {}
    last = dict.fromkeys(('segments', 'windows'), 0)
    for example in examples:
      number = int(example[f'{self.name}_mask'].sum())
      for key in self._list_arrays():
        suffix = key.removeprefix(f'{self.name}_')
        array = example[key][:number]
        if suffix in last and number:
          array = array + last[suffix]
          last[suffix] = int(array.max())
        rows.setdefault(key, []).append(array)
    return self._pad({key: np.concatenate(part) for key, part in rows.items()})

  def make_inputs(self, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Normalises the patches of a batch, and repeats single frames."""
    pixels, mask = batch[self.name], batch[f'{self.name}_mask']
    # Channels come first in a patch, [B, S, 3, stored * p * p].
    channels = pixels.reshape(*pixels.shape[:-1], 3, -1)
    channels = image_files.normalise(
      channels.swapaxes(-1, -2), self.mean, self.std
    ).swapaxes(-1, -2)
    # [B, S, 3, frames / stored, stored * p * p]
    copies = self.temporal_patch_size // self.stored_frames
    repeated = channels[..., None, :].repeat(copies, axis=-2)
    rows = repeated.reshape(*pixels.shape[:-1], -1)
    return {self.name: rows * mask[..., None].astype(np.float32)}

  @classmethod
  def render(cls, value: Any) -> contact_sheet.Cell:
    values = value if isinstance(value, list) else [value]
    return images.render_grid([image_files.decode(item) for item in values]), []

  def _fit_size(self, height: int, width: int) -> tuple[int, int]:
    side = self.patch_size * self.merge_size
    return packing.fit_size(
      height, width, side, self.min_pixels, self.max_pixels
    )

  def _list_arrays(self) -> list[str]:
    mask = f'{self.name}_mask'
    return [key for key in self.list_keys() if key != mask]

  def _combine(self, arrays: Sequence[np.ndarray]) -> base.Example:
    """Cuts images uint8 [H, W, 3] of any sizes into one row of patches."""
    grids = self.find_grids(arrays)
    self._check_room(grids)
    return self._pack(
      [
        image_files.resize(array, self._fit_size(*array.shape[:2]))[None]
        for array in arrays
      ],
      grids,
    )

  def _check_room(self, grids: Sequence[packing.Grid]) -> None:
    number = sum(grid.tokens for grid in grids)
    if number > self.tokens:
      raise ConfigError(
        f'{self.name}: {len(grids)} {self.item_word}s have {number} tokens, '
        f'more than data.features.{self.name}.tokens={self.tokens}; raise it, '
        'or lower max_pixels'
      )

  def _pack(
    self, arrays: Sequence[np.ndarray], grids: Sequence[packing.Grid]
  ) -> base.Example:
    """Cuts resized frames uint8 [F, H, W, 3] into one row of patches."""
    if not arrays:
      return self._pad({})
    numbers = [
      packing.cut_frames(
        array, self.patch_size, self.merge_size, self.stored_frames
      )
      for array in arrays
    ]
    layout = packing.patch_layout(grids, self.merge_size, self.window)
    return self._pad(
      {
        self.name: np.concatenate(numbers),
        **{f'{self.name}_{key}': array for key, array in layout.items()},
      }
    )

  def _pad(self, rows: Mapping[str, np.ndarray]) -> base.Example:
    """Arrays of S patches, the first ones of which are `rows`."""
    length = self.tokens * self.merge_size**2
    widths = {
      self.name: (3 * self.stored_frames * self.patch_size**2,),
      f'{self.name}_positions': (2,),
    }
    example = {}
    for key in self._list_arrays():
      dtype = np.uint8 if key == self.name else np.int32
      example[key] = np.zeros((length, *widths.get(key, ())), dtype)
      if key in rows:
        example[key][: len(rows[key])] = rows[key]
    number = len(rows.get(self.name, ()))
    example[f'{self.name}_mask'] = np.arange(length) < number
    return example
