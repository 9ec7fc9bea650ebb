"""Compositions of encoders, fusions and decoders."""

from mmjax.models.build import build
from mmjax.models.contrastive_captioner import ContrastiveCaptioner
from mmjax.models.dual_encoder import DualEncoder
from mmjax.models.encoder_decoder import EncoderDecoder
from mmjax.models.language_model import LanguageModel

__all__ = [
  'ContrastiveCaptioner',
  'DualEncoder',
  'EncoderDecoder',
  'LanguageModel',
  'build',
]
