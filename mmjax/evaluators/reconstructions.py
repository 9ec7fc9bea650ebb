"""Evaluates images that an autoencoder encodes and decodes."""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from mmjax.data import batches as batching
from mmjax.data import contact_sheet, preprocess, sources
from mmjax.errors import ConfigError
from mmjax.evaluators import masked, spread
from mmjax.metrics import image_quality
from mmjax.types import Batch, Params

_DRAWN = 12


class Reconstructions:
  """How close reconstructions are, and how many codes are used.

  Yields `NAME/psnr` in decibels, `NAME/ssim` of images of at least 11 pixels a
  side, and `NAME/plain_psnr`, that of an image of its mean color; of an
  autoencoder with tokens also `NAME/perplexity`, the exponential of the entropy
  of the tokens' frequencies, and `NAME/used`, the fraction of codes that occur.
  """

  _task: ClassVar[str] = 'tasks.reconstruct'

  def __init__(
    self,
    reconstruct: Callable[[Params, Batch], Any],
    encode: Callable[[Params, Batch], Any] | None,
    source: sources.Source,
    preprocessor: preprocess.Preprocessor,
    *,
    feature: str,
    size: int,
    batch_size: int,
    num_examples: int = 0,
    name: str = 'reconstruct',
  ):
    """Sets the evaluation up; nothing is computed yet.

    Args:
      reconstruct: function (params, batch) -> images.
      encode: function (params, batch) -> tokens; None for no tokens.
      source: records with images.
      preprocessor: preprocessor that makes them.
      feature: the image.
      size: number of codes.
      batch_size: number of examples at a time.
      num_examples: number of records to use, the first ones; 0 for all.
      name: prefix of the metrics' names.
    """
    jit = lambda f: f and spread.jit_over_mesh(f, preprocessor.make_inputs)
    self._reconstruct, self._encode = jit(reconstruct), jit(encode)
    self._source, self._preprocess = source, preprocessor
    self._feature, self._size, self._name = feature, size, name
    self._batch_size = batch_size
    self._num = min(num_examples or len(source), len(source))
    self._cells: list[contact_sheet.Cell] = []

  def run(self, params: Params) -> Iterator[tuple[str, float]]:
    """Yields (name, value), over the records with the feature.

    Raises:
      ConfigError: if there are none.
    """
    values: dict[str, list[np.ndarray]] = {}
    counts, shown = np.zeros(max(self._size, 1), np.int64), []
    for batch, having in self._batches():
      if not having.any():
        continue
      found = self._read(self._reconstruct(params, batch))[having]
      true = self._read_true(batch)[having]
      shown += list(zip(true, found, strict=True))[: _DRAWN - len(shown)]
      for key, value in self._measure(true, found).items():
        values.setdefault(key, []).append(value)
      if self._encode is not None:
        ids = self._encode(params, batch)[having]
        counts += np.bincount(ids.ravel(), minlength=self._size)
    if not values:
      raise ConfigError(
        f'none of {self._num} records has {self._feature!r}, which '
        f'{self._task} encodes'
      )
    for key, parts in values.items():
      yield f'{self._name}/{key}', float(np.concatenate(parts).mean())
    if self._encode is not None:
      shares = counts[counts > 0] / counts.sum()
      entropy = -(shares * np.log(shares)).sum()
      yield f'{self._name}/perplexity', float(np.exp(entropy))
      yield f'{self._name}/used', float(np.mean(counts > 0))
    self._cells = [
      (self._draw(value), [label])
      for pair in shown
      for value, label in zip(pair, ('original', 'reconstruction'), strict=True)
    ]

  def render(self) -> Image.Image | None:
    """Originals, each beside its reconstruction."""
    if not self._cells:
      return None
    title = f'{self._name}: {self._feature}, encoded and decoded'
    return contact_sheet.render(self._cells, columns=6, title=title)

  def _batches(self) -> Iterator[tuple[Batch, np.ndarray]]:
    keys = self._preprocess[self._feature].list_keys()
    with batching.iterate_eval(
      self._source, self._preprocess, self._batch_size, num_examples=self._num
    ) as ahead:
      for batch in ahead:
        present = batch[f'{self._feature}_mask'].reshape(len(batch['mask']), -1)
        having = batch['mask'] & present.any(axis=1)
        yield {key: batch[key] for key in keys}, having

  def _read(self, found: Any) -> np.ndarray:
    """What the model gives as images [B, H, W, 3] uint8."""
    return masked.to_pixels(self._preprocess[self._feature], found)

  def _read_true(self, batch: Batch) -> np.ndarray:
    """The images as the model reads them, uint8 [B, H, W, 3]."""
    normalised = self._preprocess.make_inputs(batch)[self._feature]
    return self._read(np.asarray(normalised))

  def _measure(
    self, true: np.ndarray, found: np.ndarray
  ) -> dict[str, np.ndarray]:
    """Metrics [N] of what `_read_true` and `_read` give."""
    return _measure(true / 255.0, found / 255.0)

  def _draw(self, value: np.ndarray) -> np.ndarray:
    """One of them as an image, uint8 [H, W, 3]."""
    return value


def _measure(true: np.ndarray, found: np.ndarray) -> dict[str, np.ndarray]:
  """Metrics [N] of images in 0..1."""
  # Equal images have no finite ratio; 1e-10 is far below one step of 8 bits.
  ratio = lambda a, b: np.minimum(
    image_quality.peak_signal_to_noise(a, b), 100.0
  )
  plain = np.broadcast_to(true.mean(axis=(1, 2), keepdims=True), true.shape)
  out = {'psnr': ratio(true, found), 'plain_psnr': ratio(true, plain)}
  if min(true.shape[1:3]) >= image_quality.WINDOW:
    out['ssim'] = image_quality.structural_similarity(true, found)
  return out
