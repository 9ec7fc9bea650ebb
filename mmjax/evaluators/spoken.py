"""Evaluates sounds that a model makes of texts."""

from collections.abc import Callable, Iterator
from typing import ClassVar

import numpy as np

from mmjax.data import drawings, melody_reader
from mmjax.evaluators import generating
from mmjax.types import Params

# From samples [S], a text and the rate of samples to whether the text holds.
Holds = Callable[[np.ndarray, str, int], bool]
# Checks of sounds by data set.
CHECKS: dict[str, Holds] = {'shapes_senses': melody_reader.holds}


class Spoken(generating.Generated):
  """Makes a sound of a text of each record, and says how many are right.

  Always yields `NAME/spectrum_error`, the distance of the mean spectrum of
  sounds from that of the records' own: half the absolute difference of the two,
  each divided by its sum, in 0..1. With `holds` also `NAME/right`, the fraction
  of sounds in which their text holds; `NAME/unconditional`, the same of sounds
  that the model makes without their text; and `NAME/true`, that of the records'
  own.
  """

  _word: ClassVar[str] = 'sounds'
  _right_means: ClassVar[str] = 'it is as the text says'

  def run(self, params: Params) -> Iterator[tuple[str, float]]:
    """Yields (name, value), over the records with a sound and a text.

    Raises:
      ConfigError: if there are no such records.
    """
    spoken, without, records = self._generate(params, [self._condition], ())
    feature = self._preprocess[self._feature]
    true = np.stack(
      [feature.prepare(feature.get(r))[self._feature] for r in records]
    )
    texts = self._describe(self._condition, records)
    spectra = [_mean_spectrum(sounds) for sounds in (spoken, true)]
    error = 0.5 * np.abs(spectra[0] - spectra[1]).sum()
    yield f'{self._name}/spectrum_error', float(error)
    yield from self._check(texts, spoken, without, true)
    shown = [drawings.draw_sound(x) for x in spoken[: generating.SHOWN]]
    self._keep(shown, texts, spoken)


def _mean_spectrum(sounds: np.ndarray) -> np.ndarray:
  """The mean magnitudes of samples [N, S], with the sum 1."""
  mean = np.abs(np.fft.rfft(sounds)).mean(axis=0)
  return mean / max(mean.sum(), 1e-9)
