"""Evaluates predictions of what is hidden of a feature."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from mmjax.data import batches as batching
from mmjax.data import contact_sheet, preprocess, sources
from mmjax.errors import ConfigError
from mmjax.evaluators import spread
from mmjax.types import Batch, Params

_DRAWN = 12
# Number of training records whose tokens are counted.
_COUNTED = 20_000


class _Hidden:
  """Applies a function to all records of a split that have a feature."""

  def __init__(
    self,
    measure: Callable[[Params, Batch], Any],
    source: sources.Source,
    preprocessor: preprocess.Preprocessor,
    *,
    feature: str,
    inputs: Sequence[str],
    batch_size: int,
    num_examples: int = 0,
    name: str = 'masked',
  ):
    """Sets the evaluation up; nothing is computed yet.

    Args:
      measure: function (params, batch) -> array [B, ...]; batches have `index`.
      source: records with the feature.
      preprocessor: preprocessor that makes the features.
      feature: the feature of which parts are hidden.
      inputs: features that the model reads.
      batch_size: number of examples at a time.
      num_examples: number of records to use, the first ones; 0 for all.
      name: prefix of the metrics' names.
    """
    self._measure = spread.jit_over_mesh(measure, preprocessor.make_inputs)
    self._source, self._preprocess = source, preprocessor
    self._feature, self._name = feature, name
    self._keys = [
      *(key for n in inputs for key in preprocessor[n].list_keys()),
      'index',
      'mask',
    ]
    self._batch_size = batch_size
    self._num = min(num_examples or len(source), len(source))

  def _predict(self, params: Params) -> Iterator[tuple[Batch, np.ndarray]]:
    """Yields batches, and what was measured of the examples with the feature.

    Raises:
      ConfigError: at the end, if there were none.
    """
    found = 0
    with batching.iterate_eval(
      self._source,
      self._preprocess,
      self._batch_size,
      num_examples=self._num,
    ) as ahead:
      for batch in ahead:
        mask = batch[f'{self._feature}_mask']
        having = mask.reshape(len(mask), -1).any(axis=1) & batch['mask']
        arrays = {key: batch[key] for key in self._keys}
        found += having.sum()
        yield arrays, self._measure(params, arrays)[having]
    if not found:
      raise ConfigError(
        f'none of {self._num} records has {self._feature!r}, of which '
        'tasks.masked predicts hidden parts'
      )


class HiddenTokens(_Hidden):
  """How well hidden words of texts are predicted.

  Yields `NAME/cross_entropy` and `NAME/accuracy` of the hidden tokens, and of
  the same tokens `NAME/unigram_cross_entropy` and `NAME/unigram_accuracy`: of
  predicting each by how often it occurs in training, without any context. What
  is hidden of a record is the same at each evaluation.
  """

  def __init__(self, *args: Any, train: sources.Source, **settings: Any):
    """Sets the evaluation up; nothing is computed yet.

    Args:
      *args: as of the base class; `measure` is `predict.make_masked_tokens`.
      train: records of training, of which the first 20,000 are counted.
      **settings: as of the base class.
    """
    super().__init__(*args, **settings)
    self._train = train
    self._log_unigram: np.ndarray | None = None

  def run(self, params: Params) -> Iterator[tuple[str, float]]:
    """Yields (name, value), over the records that have the text.

    Raises:
      ConfigError: if there are none, or they have no words.
    """
    rows = [rows.reshape(-1, 4) for _, rows in self._predict(params)]
    chosen, losses, right, labels = np.concatenate(rows).T
    kept = chosen > 0
    if not kept.any():
      raise ConfigError(
        f'no record has a word in {self._feature!r} that could be hidden'
      )
    labels = labels[kept].astype(np.int64)
    if self._log_unigram is None:
      self._log_unigram = self._count_tokens()
    commonest = self._log_unigram.argmax()
    values = {
      'cross_entropy': losses[kept].mean(dtype=np.float64),
      'unigram_cross_entropy': -self._log_unigram[labels].mean(),
      'accuracy': right[kept].mean(dtype=np.float64),
      'unigram_accuracy': (labels == commonest).mean(),
    }
    for key, value in values.items():
      yield f'{self._name}/{key}', float(value)

  def render(self) -> None:
    """Draws nothing: `fill` of a run shows what is predicted."""

  def _count_tokens(self) -> np.ndarray:
    """Log-probability [V] of each token in training, with 1 added to counts."""
    feature = self._preprocess[self._feature]
    counts = np.ones(feature.tokenizer.vocab_size)
    for i in range(min(len(self._train), _COUNTED)):
      for text in feature.list_evaluation_texts(self._train.read_small(i))[:1]:
        ids = feature.tokenizer.encode_words(text)[: feature.length]
        np.add.at(counts, ids, 1)
    return np.log(counts / counts.sum())


class HiddenPatches(_Hidden):
  """How well hidden patches of images or sounds are predicted.

  Yields `NAME/error`, the mean squared error of hidden patches, normalised one
  by one, and `NAME/mean_error`, that of predicting each patch's mean: 1, but
  for patches of one value, where it is 0. What is hidden of a record is the
  same at each evaluation.
  """

  def __init__(
    self, *args: Any, rebuild: Callable[[Params, Batch], Any], **settings: Any
  ):
    """Sets the evaluation up; nothing is computed yet.

    Args:
      *args: as of the base class; `measure` is `predict.make_masked_patches`.
      rebuild: `predict.make_reconstructions`.
      **settings: as of the base class.
    """
    super().__init__(*args, **settings)
    self._rebuild = spread.jit_over_mesh(rebuild, self._preprocess.make_inputs)
    self._images: np.ndarray | None = None

  def run(self, params: Params) -> Iterator[tuple[str, float]]:
    """Yields (name, value), over the records that have the feature.

    Raises:
      ConfigError: if there are none.
    """
    errors = []
    for batch, found in self._predict(params):
      if not errors:
        mask = batch[f'{self._feature}_mask']
        having = mask.reshape(len(mask), -1).any(axis=1) & batch['mask']
        images = self._rebuild(params, batch)[having]
        self._images = to_pixels(
          self._preprocess[self._feature], images[:_DRAWN]
        )
      errors.append(found)
    error, baseline = np.concatenate(errors).mean(axis=0, dtype=np.float64)
    yield f'{self._name}/error', float(error)
    yield f'{self._name}/mean_error', float(baseline)

  def render(self) -> Image.Image | None:
    """Inputs, what the model got of them, and what it made of that."""
    if self._images is None:
      return None
    cells = [
      (image, [label])
      for images in self._images
      for image, label in zip(
        images, ('original', 'visible patches', 'reconstruction'), strict=True
      )
    ]
    return contact_sheet.render(
      cells,
      columns=6,
      title=f'{self._name}: {self._feature} from its visible patches (hidden '
      'ones get their true mean and contrast, which are not predicted)',
    )


def to_pixels(feature: Any, images: np.ndarray) -> np.ndarray:
  """Images [..., H, W, 3] uint8 of a model's values [..., H, W, C].

  Args:
    feature: an image feature, whose normalisation is taken back. The
      spectrogram of any other is scaled, black to white, and has low bands at
      the bottom.
    images: the values.
  """
  if hasattr(feature, 'std'):
    images = images * np.asarray(feature.std) + np.asarray(feature.mean)
  else:
    low, high = images.min(), images.max()
    images = (images - low) / max(high - low, 1e-9)
    images = np.repeat(images[..., ::-1, :, :], 3, axis=-1)
  return (images.clip(0, 1) * 255).round().astype(np.uint8)
