"""Compositions of encoders, fusions and decoders."""

from mmjax.models.audio_classifier import AudioClassifier
from mmjax.models.build import build
from mmjax.models.contrastive_captioner import ContrastiveCaptioner
from mmjax.models.dual_encoder import DualEncoder
from mmjax.models.encoder_decoder import EncoderDecoder
from mmjax.models.speech_recognizer import SpeechRecognizer

__all__ = [
  'AudioClassifier',
  'ContrastiveCaptioner',
  'DualEncoder',
  'EncoderDecoder',
  'SpeechRecognizer',
  'build',
]
