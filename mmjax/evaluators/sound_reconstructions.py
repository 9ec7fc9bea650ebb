"""Evaluates sounds that an autoencoder encodes and decodes."""

from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from PIL import Image

from mmjax import ops
from mmjax.data import batches as batching
from mmjax.data import contact_sheet, drawings, preprocess, sources
from mmjax.errors import ConfigError
from mmjax.evaluators import reconstructions, spread
from mmjax.metrics import sound_quality
from mmjax.types import Batch, Params

_DRAWN = 12


class SoundReconstructions:
  """How close reconstructions of sounds are, and how many codes are used.

  Yields `NAME/snr`, the ratio of a sound's power to that of the error, in
  decibels; `NAME/spectral`, the distance of their spectra, and
  `NAME/silent_spectral`, that of silence; and of the tokens `NAME/perplexity`,
  the exponential of the entropy of their frequencies, and `NAME/used`, the
  fraction of codes that occur.
  """

  def __init__(
    self,
    reconstruct: Callable[[Params, Batch], Any],
    encode: Callable[[Params, Batch], Any],
    source: sources.Source,
    preprocessor: preprocess.Preprocessor,
    *,
    feature: str,
    size: int,
    batch_size: int,
    num_examples: int = 0,
    name: str = 'reconstruct_sound',
  ):
    """Sets the evaluation up; nothing is computed yet.

    Args:
      reconstruct: function (params, batch) -> samples [B, N].
      encode: function (params, batch) -> tokens.
      source: records with sounds.
      preprocessor: preprocessor that makes them.
      feature: the sound.
      size: number of codes.
      batch_size: number of examples at a time.
      num_examples: number of records to use, the first ones; 0 for all.
      name: prefix of the metrics' names.
    """
    jit = lambda f: spread.jit_over_mesh(f, preprocessor.make_inputs)
    self._reconstruct, self._encode = jit(reconstruct), jit(encode)
    self._source, self._preprocess = source, preprocessor
    self._feature, self._size, self._name = feature, size, name
    self._batch_size = batch_size
    self._num = min(num_examples or len(source), len(source))
    self._cells: list[contact_sheet.Cell] = []

  def run(self, params: Params) -> Iterator[tuple[str, float]]:
    """Yields (name, value), over the records with a sound.

    Raises:
      ConfigError: if there are none.
    """
    values: dict[str, list[np.ndarray]] = {}
    counts, shown = np.zeros(self._size, np.int64), []
    for batch, having in self._batches():
      if not having.any():
        continue
      true = np.asarray(batch[self._feature])[having]
      found = np.asarray(self._reconstruct(params, batch))[having]
      shown += list(zip(true, found, strict=True))[: _DRAWN - len(shown)]
      distance = lambda *pair: np.asarray(
        ops.spectral_distance(*map(jnp.asarray, pair))
      )
      for key, value in {
        'snr': sound_quality.signal_to_noise(true, found),
        'spectral': distance(true, found),
        'silent_spectral': distance(true, np.zeros_like(true)),
      }.items():
        values.setdefault(key, []).append(value)
      ids = np.asarray(self._encode(params, batch))[having]
      counts += np.bincount(ids.ravel(), minlength=self._size)
    if not values:
      raise ConfigError(
        f'none of {self._num} records has {self._feature!r}, which '
        'tasks.reconstruct_sound encodes'
      )
    for key, parts in values.items():
      yield f'{self._name}/{key}', float(np.concatenate(parts).mean())
    yield from reconstructions.describe_counts(self._name, counts)
    self._cells = [
      (drawings.draw_sound(samples), [label])
      for pair in shown
      for samples, label in zip(
        pair, ('original', 'reconstruction'), strict=True
      )
    ]

  def render(self) -> Image.Image | None:
    """Waveforms and spectrograms, each beside those of its reconstruction."""
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
        having = batch['mask'] & batch[f'{self._feature}_mask'].any(axis=-1)
        yield {key: batch[key] for key in keys}, having
