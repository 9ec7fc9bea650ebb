"""Evaluates images that a model draws of texts."""

import collections
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from mmjax.data import (
  images,
  preprocess,
  shapes_detector,
  sources,
)
from mmjax.errors import ConfigError
from mmjax.evaluators import generating, masked, spread
from mmjax.metrics import distances
from mmjax.types import Batch, Params

# From an image [H, W, 3] uint8 and its text to whether the text holds.
Holds = Callable[[np.ndarray, str], bool]
# Checks of images by data set.
CHECKS: dict[str, Holds] = {'shapes': shapes_detector.holds}


@dataclasses.dataclass(frozen=True)
class Judge:
  """A trained model in whose space drawn images and true ones are compared.

  Attributes:
    embed: (params, batch of the run's arrays) -> features [B, E].
    params: its parameters.
    embed_texts: texts -> features [N, E] in the same space; None for a model of
      images alone.
  """

  embed: Callable[[Params, Batch], Any]
  params: Params
  embed_texts: Callable[[Sequence[str]], Any] | None = None


class Drawings(generating.Generated):
  """Draws an image of a text of each record, and says how many are right.

  With `holds`, it yields `NAME/right`, the fraction of images that have all
  that their text asks for, and nothing else; `NAME/unconditional`, the same of
  images that the model draws without their text; and `NAME/true`, that of the
  records' own images. Always `NAME/mean_error`, the distance of the mean color
  of images from that of the records' own, in 0..1.

  With a judge also `NAME/frechet`, `NAME/kernel`, `NAME/precision` and
  `NAME/recall` of drawn images and the records' own, of `mmjax.metrics` in the
  judge's space (with the features of Inception, the first two are FID and KID).
  With one that embeds texts too also `NAME/clip_score`, 100 times the mean
  cosine of drawn images with their texts, negative ones as 0 (CLIPScore, Hessel
  et al. 2021, without its factor of 2.5); `NAME/r1`, the fraction of drawn
  images whose text is the nearest of all; both of the records' own images,
  `NAME/true_clip_score` and `NAME/true_r1`; and `NAME/chance_r1`.
  """

  _word: ClassVar[str] = 'drawings'
  _right_means: ClassVar[str] = 'all of it is there'

  def __init__(
    self,
    make: generating.Make,
    make_without: generating.Make | None,
    source: sources.Source,
    preprocessor: preprocess.Preprocessor,
    *,
    feature: str,
    condition: str,
    inputs: Sequence[str] = (),
    judge: Judge | None = None,
    judge_feature: str = '',
    judge_text: str = '',
    name: str = 'drawings',
    **settings: Any,
  ):
    """Sets the evaluation up; nothing is computed yet.

    Args:
      make: argument of `Generated`, such as `predict.make_draw`.
      make_without: argument of `Generated`.
      source: argument of `Generated`.
      preprocessor: argument of `Generated`.
      feature: argument of `Generated`.
      condition: argument of `Generated`.
      inputs: features of which images are drawn; () for the condition.
      judge: what embeds images; None for no distances.
      judge_feature: feature that makes images as the judge reads them; '' for
        `feature`.
      judge_text: text feature with what the judge reads about an image; '' for
        the condition. Records without a text of it are left out.
      name: prefix of the metrics' names.
      **settings: further arguments of `Generated`.

    Raises:
      ConfigError: if a judge has too few records for its distances.
    """
    super().__init__(
      make,
      make_without,
      source,
      preprocessor,
      feature=feature,
      condition=condition,
      name=name,
      **settings,
    )
    self._inputs = tuple(inputs) or (condition,)
    self._judge, self._judge_feature = judge, judge_feature or feature
    self._judge_text = judge_text or condition
    if judge is not None:
      self._embed = spread.jit_over_mesh(judge.embed, dict)
      _check_number(name, self._num)

  def run(self, params: Params) -> Iterator[tuple[str, float]]:
    """Yields (name, value), over the records with an image and a text.

    Raises:
      ConfigError: if there are no such records.
    """
    *made, records = self._generate(params, self._inputs, [self._judge_text])
    feature = self._preprocess[self._feature]
    drawn, without = (
      None if x is None else masked.to_pixels(feature, x) for x in made
    )
    size = drawn.shape[1:3]
    true = [
      images.resize(images.decode(feature.get(r)), size, feature.resize)
      for r in records
    ]
    means = [np.mean(x, axis=(0, 1, 2)) / 255 for x in (drawn, np.stack(true))]
    yield f'{self._name}/mean_error', float(np.abs(means[0] - means[1]).mean())
    texts = self._describe(self._condition, records)
    if self._judge is not None:
      asked = self._describe(self._judge_text, records)
      yield from self._compare(drawn, np.stack(true), asked)
    yield from self._check(texts, drawn, without, true)
    self._keep(drawn[: generating.SHOWN], texts, drawn)

  def _compare(
    self, drawn: np.ndarray, true: np.ndarray, texts: Sequence[str]
  ) -> Iterator[tuple[str, float]]:
    """Compares drawn images with true ones, [N, H, W, 3] uint8, and N texts."""
    features = [self._embed_pixels(x) for x in (drawn, true)]
    precision, recall = distances.precision_recall(*features)
    for name, value in {
      'frechet': distances.frechet(*features),
      'kernel': distances.kernel(*features),
      'precision': precision,
      'recall': recall,
    }.items():
      yield f'{self._name}/{name}', value
    if self._judge.embed_texts is None:
      return
    asked = _normalise(np.asarray(self._judge.embed_texts(texts)))
    for prefix, embedded in zip(('', 'true_'), features, strict=True):
      cosines = _normalise(embedded) @ asked.T  # [N, N]
      score = 100 * np.maximum(np.diagonal(cosines), 0).mean()
      nearest = [texts[i] for i in cosines.argmax(axis=1)]
      found = np.mean([a == b for a, b in zip(nearest, texts, strict=True)])
      yield f'{self._name}/{prefix}clip_score', float(score)
      yield f'{self._name}/{prefix}r1', float(found)
    counts = collections.Counter(texts)
    chance = np.mean([counts[text] for text in texts]) / len(texts)
    yield f'{self._name}/chance_r1', float(chance)

  def _embed_pixels(self, images: np.ndarray) -> np.ndarray:
    """The judge's features [N, E]."""
    size, rows = self._batch_size, []
    for start in range(0, len(images), size):
      part = images[start : start + size]
      # All batches have one size, so that one program is compiled.
      whole = np.resize(part, (size, *part.shape[1:]))
      batch = self._preprocess.prepare(**{self._judge_feature: list(whole)})
      rows.append(self._embed(self._judge.params, batch)[: len(part)])
    return np.concatenate(rows)


def _check_number(name: str, number: int) -> None:
  """Refuses too few drawings for a judge's distances."""
  if number <= distances.NEIGHBORS:
    raise ConfigError(
      f'{name}: a judge compares more than {distances.NEIGHBORS} drawings, not '
      f'{number}; raise eval.num_examples, or set judge to ""'
    )


def _normalise(features: np.ndarray) -> np.ndarray:
  """Features [N, E] as unit vectors."""
  return features / np.linalg.norm(features, axis=1, keepdims=True)
