"""Compositions of encoders, fusions and decoders.

Shape letters are those of `mmjax.types`.
"""

from mmjax.models.audio_language import InterleavedAudioLanguage
from mmjax.models.build import (
  build,
  describe,
  settings_of,
  training_settings,
)
from mmjax.models.classifier import Classifier
from mmjax.models.contrastive_captioner import ContrastiveCaptioner
from mmjax.models.diffusion_transformer import DiT
from mmjax.models.dual_encoder import DualEncoder
from mmjax.models.embedder import VisionLanguageEmbedder
from mmjax.models.encoder_decoder import EncoderDecoder
from mmjax.models.image_autoencoder import ImageAutoencoder
from mmjax.models.image_first import ImageFirstVisionLanguage
from mmjax.models.image_text_matcher import ImageTextMatcher
from mmjax.models.language_model import LanguageModel
from mmjax.models.masked_image_transformer import MaskGit
from mmjax.models.masked_language_model import MaskedLanguageModel
from mmjax.models.mmdit import MMDiT
from mmjax.models.multimodal import Multimodal
from mmjax.models.parts import (
  ENCODER_PARTS,
  NESTED,
  NESTED_DERIVED,
  PARTS,
  find_encoder_inputs,
  list_encoder_inputs,
)
from mmjax.models.pixart import PixArt
from mmjax.models.prior import Prior
from mmjax.models.sizes import DataSizes, OutputSpec
from mmjax.models.sound_autoencoder import SoundAutoencoder
from mmjax.models.speech_recognizer import SpeechRecognizer
from mmjax.models.tables import BUILT_IN, MODELS, Tables
from mmjax.models.text_to_text import TextToText
from mmjax.models.token_codes import TokenCodes
from mmjax.models.unclip import Unclip
from mmjax.models.vision_language import InterleavedVisionLanguage

__all__ = [
  'BUILT_IN',
  'ENCODER_PARTS',
  'MODELS',
  'NESTED',
  'NESTED_DERIVED',
  'PARTS',
  'Classifier',
  'ContrastiveCaptioner',
  'DataSizes',
  'DiT',
  'DualEncoder',
  'EncoderDecoder',
  'ImageAutoencoder',
  'ImageFirstVisionLanguage',
  'ImageTextMatcher',
  'InterleavedAudioLanguage',
  'InterleavedVisionLanguage',
  'LanguageModel',
  'MMDiT',
  'MaskGit',
  'MaskedLanguageModel',
  'Multimodal',
  'OutputSpec',
  'PixArt',
  'Prior',
  'SoundAutoencoder',
  'SpeechRecognizer',
  'Tables',
  'TextToText',
  'TokenCodes',
  'Unclip',
  'VisionLanguageEmbedder',
  'build',
  'describe',
  'find_encoder_inputs',
  'list_encoder_inputs',
  'settings_of',
  'training_settings',
]
