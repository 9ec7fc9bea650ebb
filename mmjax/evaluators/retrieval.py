"""Evaluates retrieval of one feature of records by another."""

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from mmjax.data import batches as batching
from mmjax.data import contact_sheet, features, preprocess, sources
from mmjax.errors import ConfigError, suggest
from mmjax.evaluators import spread
from mmjax.metrics import retrieval
from mmjax.types import Batch, Params

Predict = Callable[[Params, Batch], Any]


class Retrieval:
  """Retrieves texts for images and images for texts, or any two features.

  All texts of a record count as correct. Records without the first feature are
  left out; those without the second serve as distractors. Yields, for k of 1, 5
  and 10, `NAME/image_to_text_rK` and `NAME/text_to_image_rK` (by the features'
  names), `NAME/mean_r1` over both directions, and `NAME/chance_r1`, the mean
  R@1 of a random order.

  With `gallery_by`, records are compared only within one value of that metadata
  field, and metrics are means over these galleries, weighted by their number
  of records.
  """

  def __init__(
    self,
    embed: Mapping[str, Predict],
    source: sources.Source,
    preprocessor: preprocess.Preprocessor,
    *,
    batch_size: int,
    num_examples: int = 0,
    gallery_by: str = '',
    score: str = 'cosine',
    tile: int = 0,
    name: str = 'retrieval',
  ):
    """Sets the evaluation up; nothing is computed yet.

    Args:
      embed: for each of two features, a function (params, batch with its
        arrays) -> unit vectors [B, E], or [B, N, E] for MaxSim.
      source: records with both features.
      preprocessor: preprocessor that makes the features.
      batch_size: number of examples at a time.
      num_examples: number of records to use, the first ones; 0 for all.
      gallery_by: metadata field whose values are the galleries; '' for one
        gallery.
      score: 'cosine', or 'maxsim' of the first feature with the second.
      tile: tile of `metrics.retrieval.maxsim`.
      name: prefix of the metrics' names.
    """
    self._features = tuple(embed)
    self._embed = {
      feature: spread.jit_over_mesh(function, preprocessor.make_inputs)
      for feature, function in embed.items()
    }
    self._source, self._preprocess = source, preprocessor
    self._batch_size = batch_size
    self._num = min(num_examples or len(source), len(source))
    self._gallery_by, self._name = gallery_by, name
    self._uses_tokens, self._tile = score == 'maxsim', tile
    self._shown: list[contact_sheet.Cell] = []

  def run(self, params: Params) -> Iterator[tuple[str, float]]:
    """Yields (name, value).

    Raises:
      ConfigError: if no record has the first feature, or none of these the
        second; or if none has `gallery_by`.
    """
    first, second = self._features
    queries, having = self._embed_records(params, first)
    if not len(having):
      raise ConfigError(
        f'none of {self._num} records has {self._describe(first)} to find; '
        f'use a data set with it, or map its features with `fields`'
      )
    items, owners, labels = self._embed_items(params, second, having)
    if not len(owners):
      raise ConfigError(
        f'none of {len(having)} records with {self._describe(first)} has '
        f'{self._describe(second)} to find; use a data set with it, or map its '
        'features with `fields`'
      )
    galleries = collections.defaultdict(list)
    for i in map(int, having):
      metadata = self._source.read_small(i)['metadata']
      galleries[str(metadata.get(self._gallery_by))].append(i)
    if self._gallery_by and set(galleries) == {'None'}:
      names = self._source.list_metadata()
      raise ConfigError(
        f'gallery_by={self._gallery_by!r} is not in the metadata of the '
        f'records, which has {", ".join(names) or "nothing"}'
        f'{suggest(self._gallery_by, names)}'
      )
    totals = collections.Counter()
    for members in galleries.values():
      for key, value in self._gallery_metrics(members, queries, items, owners):
        totals[key] += value * len(members) / len(having)
    members = np.asarray(next(iter(galleries.values())))
    self._show(members, queries, items, owners, labels)
    for key, value in totals.items():
      yield f'{self._name}/{key}', float(value)

  def render(self) -> Image.Image | None:
    """Records, their own and the five nearest items."""
    if not self._shown:
      return None
    return contact_sheet.render(
      self._shown,
      columns=4,
      image_size=200,
      title=f'{self._name}: the five nearest of {self._features[1]} (green: '
      'its own)',
    )

  def _describe(self, name: str) -> str:
    feature = self._preprocess[name]
    if feature.field_name == 'captions':
      return 'a caption'
    word = feature.word
    return word if feature.field_name == feature.kind else f'{word} {name!r}'

  def _gallery_metrics(
    self,
    members: Sequence[int],
    queries: np.ndarray,
    items: np.ndarray,
    owners: np.ndarray,
  ) -> Iterator[tuple[str, float]]:
    chosen = np.isin(owners, members)
    position = {index: i for i, index in enumerate(members)}
    recall = retrieval.recall_of_embeddings
    if self._uses_tokens:
      recall = functools.partial(retrieval.recall_of_tokens, tile=self._tile)
    recalls = recall(
      queries[list(members)],
      items[chosen],
      np.asarray([position[i] for i in owners[chosen]]),
    )
    first, second = self._features
    directions = {
      'image_to_text': f'{first}_to_{second}',
      'text_to_image': f'{second}_to_{first}',
    }
    for direction, name in directions.items():
      for k in (1, 5, 10):
        yield f'{name}_r{k}', recalls[f'{direction}_r{k}']
    yield 'mean_r1', np.mean([recalls[f'{name}_r1'] for name in directions])
    # One of c texts among c * n, or one record among n.
    yield 'chance_r1', 1 / len(members)

  def _embed_records(
    self, params: Params, feature: str
  ) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of all records, and the indices of those with a feature."""
    alone = dataclasses.replace(
      self._preprocess, features={feature: self._preprocess[feature]}
    )
    keys = self._preprocess[feature].list_keys()
    vectors, masks = [], []
    with batching.iterate_eval(
      self._source, alone, self._batch_size, num_examples=self._num
    ) as ahead:
      for batch in ahead:
        arrays = {key: batch[key] for key in keys}
        vectors.append(self._embed[feature](params, arrays))
        mask = batch[f'{feature}_mask']
        masks.append(mask.reshape(len(mask), -1).any(axis=1))
    return (
      np.concatenate(vectors)[: self._num],
      np.flatnonzero(np.concatenate(masks)[: self._num]),
    )

  def _embed_items(
    self, params: Params, name: str, having: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Embeddings of what is found: all texts of records, or a feature of each.

    Returns:
      Embeddings [T, E], each one's record [T], and its label.
    """
    feature = self._preprocess[name]
    if not isinstance(feature, features.StoredTexts):
      vectors, present = self._embed_records(params, name)
      owners = np.intersect1d(having, present)
      labels = [self._source.read_small(int(i))['id'] for i in owners]
      return vectors[owners], owners, labels
    texts, owners = [], []
    for i in map(int, having):
      record_texts = feature.list_evaluation_texts(self._source.read_small(i))
      texts += record_texts
      owners += [i] * len(record_texts)
    size, vectors = self._batch_size, []
    blank = feature.make_absent()
    for start in range(0, len(texts), size):
      rows = [
        feature.make_arrays(t, None, flips=True)
        for t in texts[start : start + size]
      ]
      rows += [blank] * (size - len(rows))
      arrays = {key: np.stack([row[key] for row in rows]) for key in blank}
      vectors.append(self._embed[name](params, arrays))
    if not texts:
      return np.zeros((0, 1)), np.zeros(0, int), []
    return np.concatenate(vectors)[: len(texts)], np.asarray(owners), texts

  def _show(
    self,
    members: np.ndarray,
    queries: np.ndarray,
    items: np.ndarray,
    owners: np.ndarray,
    labels: Sequence[str],
    count: int = 12,
  ) -> None:
    self._shown = []
    feature = self._preprocess[self._features[0]]
    candidates = np.flatnonzero(np.isin(owners, members))
    members = members[np.isin(members, owners)]  # Those with something to find.
    for i in members[:: max(1, len(members) // count)][:count]:
      if self._uses_tokens:
        query = queries[i : i + 1]
        scores = retrieval.maxsim(query, items[candidates], self._tile)[0]
      else:
        scores = items[candidates] @ queries[i]
      lines: list[contact_sheet.Line] = []
      for rank in np.argsort(-scores)[:5]:
        item = candidates[rank]
        right = owners[item] == i
        color = contact_sheet.RIGHT if right else contact_sheet.WRONG
        lines.append((f'{scores[rank]:.2f} {labels[item]}', color))
      own = labels[int(np.flatnonzero(owners == i)[0])]
      drawing, texts = feature.render(feature.get(self._source[int(i)]))
      self._shown.append((drawing, [*texts[:1], own, *lines]))
