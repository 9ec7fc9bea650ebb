"""Compositions of encoders, fusions and decoders."""

from mmjax.models.build import build
from mmjax.models.contrastive_captioner import ContrastiveCaptioner
from mmjax.models.dual_encoder import DualEncoder
from mmjax.models.encoder_decoder import EncoderDecoder
from mmjax.models.language_model import LanguageModel
from mmjax.models.vision_language import VisionLanguage

__all__ = [
  'ContrastiveCaptioner',
  'DualEncoder',
  'EncoderDecoder',
  'LanguageModel',
  'VisionLanguage',
  'build',
]
