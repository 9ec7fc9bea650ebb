"""Compositions of encoders, fusions and decoders."""

from mmjax.models.build import PARTS, build, describe
from mmjax.models.contrastive_captioner import ContrastiveCaptioner
from mmjax.models.dual_encoder import DualEncoder
from mmjax.models.encoder_decoder import EncoderDecoder
from mmjax.models.masked_language_model import MaskedLanguageModel

__all__ = [
  'PARTS',
  'ContrastiveCaptioner',
  'DualEncoder',
  'EncoderDecoder',
  'MaskedLanguageModel',
  'build',
  'describe',
]
