"""`Tokens` in, text out, with a cache that the caller holds."""

from mmjax.decoders.generation import Generated, beam_search, sample
from mmjax.decoders.text import DecoderCache, TextDecoder

__all__ = [
  'DecoderCache',
  'Generated',
  'TextDecoder',
  'beam_search',
  'sample',
]
