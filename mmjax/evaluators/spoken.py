"""Evaluates sounds that a model makes of texts."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from mmjax.data import (
  contact_sheet,
  drawings,
  melody_reader,
  preprocess,
  sources,
)
from mmjax.errors import ConfigError
from mmjax.evaluators import generating, spread
from mmjax.types import Params

# From samples [S], their rate and a text to whether the text holds.
Holds = Callable[[np.ndarray, int, str], bool]
# Checks of sounds by data set.
CHECKS: dict[str, Holds] = {'shapes_senses': melody_reader.holds}
_DRAWN = 24


class Spoken:
  """Makes a sound of a text of each record, and says how many are right.

  Always yields `NAME/spectrum_error`, the distance of the mean spectrum of
  sounds from that of the records' own: half the absolute difference of the two,
  each divided by its sum, in 0..1. With `holds` also `NAME/right`, the fraction
  of sounds in which their text holds; `NAME/unconditional`, the same of sounds
  that the model makes without their text; and `NAME/true`, that of the records'
  own.
  """

  def __init__(
    self,
    speak: generating.Make,
    speak_without: generating.Make | None,
    source: sources.Source,
    preprocessor: preprocess.Preprocessor,
    *,
    feature: str,
    condition: str,
    batch_size: int,
    num_examples: int = 0,
    holds: Holds | None = None,
    name: str = 'spoken',
  ):
    """Sets the evaluation up; nothing is computed yet.

    Args:
      speak: `predict_tokens.make_write_tokens` with guidance.
      speak_without: the same with guidance 0; None for a model that can't.
      source: records with sounds and texts.
      preprocessor: preprocessor that makes both.
      feature: feature of the sound.
      condition: text feature that says what it should be.
      batch_size: number of examples at a time.
      num_examples: number of records to use, the first ones; 0 for all.
      holds: whether a text holds in a sound; None for no such numbers.
      name: prefix of the metrics' names.
    """
    jit = lambda f: f and spread.jit_over_mesh(f, preprocessor.make_inputs)
    self._makes = [jit(speak), jit(speak_without)]
    self._source, self._preprocess = source, preprocessor
    self._feature, self._condition = feature, condition
    self._batch_size = batch_size
    self._num = min(num_examples or len(source), len(source))
    self._holds, self._name = holds, name
    self._cells: list[contact_sheet.Cell] = []

  def run(self, params: Params) -> Iterator[tuple[str, float]]:
    """Yields (name, value), over the records with a sound and a text.

    Raises:
      ConfigError: if there are no such records.
    """
    feature = self._preprocess[self._feature]
    text = self._preprocess[self._condition]
    (spoken, without), chosen = generating.generate(
      self._makes,
      params,
      self._source,
      self._preprocess,
      keys=text.list_keys(),
      needs=(self._feature, self._condition),
      batch_size=self._batch_size,
      number=self._num,
    )
    if not chosen:
      raise ConfigError(
        f'none of {self._num} records has both {self._feature!r} and '
        f'{self._condition!r}, to compare sounds with'
      )
    records = [self._source[i] for i in chosen]
    true = np.stack(
      [feature.prepare(feature.get(r))[self._feature] for r in records]
    )
    texts = [text.list_evaluation_texts(record)[0] for record in records]
    spectra = [_mean_spectrum(sounds) for sounds in (spoken, true)]
    error = 0.5 * np.abs(spectra[0] - spectra[1]).sum()
    yield f'{self._name}/spectrum_error', float(error)
    right = None
    if self._holds is not None:
      right = self._check(spoken, texts)
      yield f'{self._name}/right', float(np.mean(right))
      for name, others in (('unconditional', without), ('true', true)):
        if others is not None:
          held = self._check(others, texts)
          yield f'{self._name}/{name}', float(np.mean(held))
    self._cells = [
      (drawings.draw_sound(spoken[i]), [(texts[i], self._find_color(right, i))])
      for i in range(min(_DRAWN, len(spoken)))
    ]

  def render(self) -> Image.Image | None:
    """Sounds as pictures, with their texts."""
    if not self._cells:
      return None
    suffix = ' (green: it is as the text says)' if self._holds else ''
    title = f'{self._name}: sounds of texts{suffix}'
    return contact_sheet.render(self._cells, title=title)

  def _check(self, sounds: np.ndarray, texts: list[str]) -> list[bool]:
    rate = self._preprocess[self._feature].rate
    return [
      self._holds(sound, rate, text)
      for sound, text in zip(sounds, texts, strict=True)
    ]

  def _find_color(self, right: list[bool] | None, i: int) -> Any:
    if right is None:
      return contact_sheet.QUIET
    return contact_sheet.RIGHT if right[i] else contact_sheet.WRONG


def _mean_spectrum(sounds: np.ndarray) -> np.ndarray:
  """The mean magnitudes of samples [N, S], with the sum 1."""
  mean = np.abs(np.fft.rfft(sounds)).mean(axis=0)
  return mean / max(mean.sum(), 1e-9)
