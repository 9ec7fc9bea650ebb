"""Compositions of encoders, fusions and decoders."""

from mmjax.models.build import build
from mmjax.models.classifier import Classifier
from mmjax.models.contrastive_captioner import ContrastiveCaptioner
from mmjax.models.dual_encoder import DualEncoder
from mmjax.models.encoder_decoder import EncoderDecoder
from mmjax.models.image_text_matcher import ImageTextMatcher

__all__ = [
  'Classifier',
  'ContrastiveCaptioner',
  'DualEncoder',
  'EncoderDecoder',
  'ImageTextMatcher',
  'build',
]
