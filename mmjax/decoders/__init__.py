"""Token ids or their vectors in, ids out, with a cache that the caller holds.

Shape letters are those of `mmjax.types`.
"""

from mmjax.decoders.beams import EarlyStopping, Scoring, beam_search
from mmjax.decoders.cache import DecoderCache, take_rows
from mmjax.decoders.logit_processors import LogitProcessors
from mmjax.decoders.sampling import Generated, OnTokens, make_keys, sample
from mmjax.decoders.text import TextDecoder

__all__ = [
  'DecoderCache',
  'EarlyStopping',
  'Generated',
  'LogitProcessors',
  'OnTokens',
  'Scoring',
  'TextDecoder',
  'beam_search',
  'make_keys',
  'sample',
  'take_rows',
]
