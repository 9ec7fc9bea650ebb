"""Texts as weighted counts of their words or characters."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from mmjax.data.features import base, text, vectors
from mmjax.errors import ConfigError

ANALYZERS = ('word', 'char', 'char_wb')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tfidf(vectors.UnitVector, text.StoredTexts):
  """One of a record's texts as TF-IDF of its terms, by scikit-learn.

  The array is float32 [D], its mask bool [], D = len(terms). An element is the
  number of times that a term occurs in the text, times its inverse document
  frequency log((1 + n) / (1 + df)) + 1 among n training texts, df of which have
  the term; the vector is then scaled to unit length. A text without any of the
  terms is zeros. Letters are lower case.

  Attributes:
    language: language of the texts to use, as of `Text`.
    size: largest D; of more terms, those that occur most often.
    analyzer: what terms are made of: 'word' (two letters or more), 'char', or
      'char_wb', characters within words, which suits languages without spaces
      and those with many endings.
    ngrams: smallest and largest number of words or characters of a term.
    sublinear: whether a count c is replaced by 1 + log(c).
    terms: terms, in lower case; None for those of the training records.
    idf: inverse document frequency of each term, likewise.
  """

  kind: ClassVar[str] = 'tfidf'
  library: ClassVar[str] = 'sklearn.feature_extraction.text'
  package: ClassVar[str] = 'scikit-learn'
  encoder_settings: ClassVar[tuple[str, ...]] = (
    'analyzer',
    'ngrams',
    'sublinear',
    'terms',
    'idf',
  )

  size: int = 4096
  analyzer: str = 'word'
  ngrams: Sequence = (1, 1)
  sublinear: bool = False
  terms: Sequence | None = None
  idf: Sequence | None = None

  def __post_init__(self):
    super().__post_init__()
    if self.size < 1:
      self.refuse('size', 'is not legal: at least 1')
    if self.analyzer not in ANALYZERS:
      self.refuse('analyzer', f'is unknown; use one of {ANALYZERS}')
    if (
      len(self.ngrams) != 2
      or any(type(number) is not int for number in self.ngrams)
      or not 1 <= self.ngrams[0] <= self.ngrams[1]
    ):
      self.refuse('ngrams', 'is not legal: (smallest, largest), as in (1, 2)')
    if (self.terms is None) != (self.idf is None):
      self.refuse('idf', 'and terms are set together, or neither')
    if self.terms is not None:
      self._check_terms()

  @property
  def is_fitted(self) -> bool:
    return self.terms is not None

  @property
  def width(self) -> int:
    return len(self.terms)

  def fit(self, source: Any) -> 'Tfidf':
    if self.is_fitted:
      return self
    vectorizer = self._make_vectorizer(max_features=self.size)
    texts = (
      words
      for record in source.iterate_small()
      for words in self.list_evaluation_texts(record)
    )
    try:
      vectorizer.fit(texts)
    except ValueError as error:  # An empty vocabulary.
      raise ConfigError(
        f'data.features.{self.name}: no training record has a text with terms '
        f'of the analyzer {self.analyzer!r} in the field {self.field_name!r}'
      ) from error
    return dataclasses.replace(
      self,
      terms=tuple(vectorizer.get_feature_names_out().tolist()),
      idf=tuple(vectorizer.idf_.tolist()),
    )

  def make_arrays(
    self, chosen: str, rng: np.random.Generator | None, *, flips: bool
  ) -> base.Example:
    del rng, flips
    return self._make_unit(self._vectorizer.transform([chosen]).toarray()[0])

  @functools.cached_property
  def _vectorizer(self):
    vectorizer = self._make_vectorizer(vocabulary=self.terms)
    vectorizer.idf_ = np.array(self.idf)
    return vectorizer

  def _make_vectorizer(self, **settings: Any):
    return self._import_library().TfidfVectorizer(
      analyzer=self.analyzer,
      ngram_range=self.ngrams,
      sublinear_tf=self.sublinear,
      **settings,
    )

  def _check_terms(self) -> None:
    if not all(isinstance(term, str) for term in self.terms):
      self.refuse('terms', 'is not legal: texts')
    if not self.terms or len(set(self.terms)) < len(self.terms):
      self.refuse('terms', 'is not legal: one term or more, each once')
    if not base.are_numbers(self.idf) or len(self.idf) != len(self.terms):
      self.refuse('idf', 'is not legal: a finite number for each of terms')
