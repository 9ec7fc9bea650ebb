"""`Tokens` in, text out, with a cache that the caller holds."""

from mmjax.decoders.cache import DecoderCache
from mmjax.decoders.constraints import Constraints
from mmjax.decoders.generation import Generated, beam_search, sample
from mmjax.decoders.text import TextDecoder

__all__ = [
  'Constraints',
  'DecoderCache',
  'Generated',
  'TextDecoder',
  'beam_search',
  'sample',
]
