"""Baselines without training: cosines of vectors that libraries compute."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmjax.data import batches as batching
from mmjax.data import features, feeds, preprocess, sources
from mmjax.errors import ConfigError
from mmjax.metrics import retrieval

_BATCH_SIZE = 64
_CHUNK = 512  # Rows whose similarities are in memory at once.


def measure(
  train: sources.Source,
  test: sources.Source,
  settings: Mapping[str, Any],
  *,
  target: str = '',
  num_examples: int = 0,
) -> dict[str, float]:
  """Compares the vectors of a feature by cosine, without any training.

  What the feature learns, such as the terms of `tfidf`, it learns from all
  training records.

  Args:
    train: training records.
    test: records that are measured.
    settings: `kind` and settings of a feature whose arrays are unit vectors:
      'hog', 'sift' or 'tfidf'.
    target: field of a class, such as 'metadata/shape', which is predicted as in
      `classify_nearest`; '' to retrieve texts as in `retrieve_texts`.
    num_examples: largest number of records of each, from the first; 0 for all.

  Returns:
    Metrics by name.

  Raises:
    ConfigError: for settings that are not legal, a field that is missing or of
      another kind, or records that can't be compared.
  """
  chosen: dict[str, Any] = {'feature': settings}
  if target:
    chosen['target'] = {'kind': 'category', 'field': target}
  built = preprocess.build(chosen)
  feature = built['feature']
  if not isinstance(feature, features.UnitVector):
    legal = [
      kind
      for kind, cls in features.KINDS.items()
      if issubclass(cls, features.UnitVector)
    ]
    raise ConfigError(
      f'a feature of the kind {feature.kind} has no unit vectors to compare; '
      f'use one of {", ".join(legal)}'
    )
  is_text = isinstance(feature, features.StoredTexts)
  if not target and not is_text:
    raise ConfigError(
      f'a record has one vector of the kind {feature.kind}, and nothing to '
      'find with it; name the field of a class as the target'
    )
  feeds.check_fields(built, train)
  fitted = preprocess.fit(built, train)
  if target:
    return classify_nearest(train, test, *fitted.values(), num_examples)
  return retrieve_texts(test, fitted['feature'], num_examples)


def classify_nearest(
  train: sources.Source,
  test: sources.Source,
  feature: features.UnitVector,
  target: features.Category,
  num_examples: int = 0,
) -> dict[str, float]:
  """Classifies each test record as its nearest training record.

  Records without the feature or the class are left out, also those of a class
  that training lacks. The first of several nearest ones counts.

  Args:
    train: training records.
    test: records that are classified.
    feature: fitted feature whose vectors are compared.
    target: fitted feature of one class a record.
    num_examples: largest number of records of each, from the first; 0 for all.

  Returns:
    `accuracy`, `majority_accuracy` of always answering the commonest class of
    training, and the numbers of records, `train_records` and `test_records`.

  Raises:
    ConfigError: if no record of one of the two has both.
  """
  known, classes = _read(train, (feature, target), num_examples)
  vectors, truth = _read(test, (feature, target), num_examples)
  nearest = np.concatenate(
    [
      np.argmax(vectors[start : start + _CHUNK] @ known.T, axis=1)
      for start in range(0, len(vectors), _CHUNK)
    ]
  )
  return {
    'accuracy': float(np.mean(classes[nearest] == truth)),
    'majority_accuracy': float(np.mean(np.bincount(classes).argmax() == truth)),
    'train_records': len(known),
    'test_records': len(truth),
  }


def retrieve_texts(
  source: sources.Source, feature: features.Tfidf, num_examples: int = 0
) -> dict[str, float]:
  """Finds the other texts of a record by its first one, and the reverse.

  Args:
    source: records; those with fewer than two texts are left out.
    feature: fitted feature of texts whose vectors are compared.
    num_examples: largest number of records, from the first; 0 for all.

  Returns:
    For k of 1, 5 and 10, `first_to_others_rK`, the fraction of records with one
    of their other texts among the k nearest, and `others_to_first_rK`, that of
    the other texts whose record's first text is; `chance_r1` of a random order;
    and the number of `records`. A wrong text of the same cosine is ranked
    before the correct one.

  Raises:
    ConfigError: if no record has two texts.
  """
  firsts, others, owners = [], [], []
  for i in range(min(num_examples or len(source), len(source))):
    texts = feature.list_evaluation_texts(source.read_small(i))
    vectors = [
      feature.make_arrays(text, None, flips=True)[feature.name]
      for text in texts
    ]
    if len(vectors) > 1:
      owners += [len(firsts)] * (len(vectors) - 1)
      firsts.append(vectors[0])
      others += vectors[1:]
  if not firsts:
    raise ConfigError(
      f'no record has two texts in the field {feature.field_name!r} to '
      'compare; name the field of a class as the target'
    )
  recalls = retrieval.recall_of_embeddings(
    np.stack(firsts), np.stack(others), np.asarray(owners)
  )
  found = {
    f'{name}_r{k}': recalls[f'{direction}_r{k}']
    for direction, name in (
      ('image_to_text', 'first_to_others'),
      ('text_to_image', 'others_to_first'),
    )
    for k in (1, 5, 10)
  }
  return {**found, 'chance_r1': 1 / len(firsts), 'records': len(firsts)}


def _read(
  source: sources.Source,
  chosen: Sequence[features.Feature],
  num_examples: int,
) -> list[np.ndarray]:
  """Arrays [N, ...] of features, of the records that have all of them."""
  make = preprocess.Preprocessor({feature.name: feature for feature in chosen})
  parts = []
  with batching.iterate_eval(
    source, make, _BATCH_SIZE, num_examples=num_examples
  ) as ahead:
    for batch in ahead:
      batch = make.make_inputs(batch)
      known = np.all([batch[f'{f.name}_mask'] for f in chosen], axis=0)
      parts.append([batch[feature.name][known] for feature in chosen])
  arrays = [np.concatenate(column) for column in zip(*parts, strict=True)]
  if not len(arrays[0]):
    raise ConfigError(
      f'no record has {" and ".join(repr(f.field_name) for f in chosen)}, '
      'both of which are needed'
    )
  return arrays
