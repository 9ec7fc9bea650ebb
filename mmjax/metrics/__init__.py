"""Metrics on numpy arrays and strings, usable without the rest of mmjax."""

from mmjax.metrics import (
  answers,
  captions,
  classification,
  distances,
  retrieval,
  transcripts,
  translations,
)

__all__ = [
  'answers',
  'captions',
  'classification',
  'distances',
  'retrieval',
  'transcripts',
  'translations',
]
