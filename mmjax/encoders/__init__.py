"""One modality in, `TokenVectors` out.

Shape letters are those of `mmjax.types`. A new encoder is a file of its own,
and here its import and its row of `ENCODERS`.
"""

from mmjax.encoders.audio import AudioTransformer
from mmjax.encoders.audio_convnet import AudioConvNet
from mmjax.encoders.divided_video import DividedVideoTransformer
from mmjax.encoders.efficientnet import EfficientNet
from mmjax.encoders.factorised_video import FactorisedVideoTransformer
from mmjax.encoders.flexible_vit import (
  FlexibleViT,
  ImagePatches,
  get_array_and_mask,
)
from mmjax.encoders.frames import FrameEncoder
from mmjax.encoders.from_samples import FromSamples
from mmjax.encoders.inception import Inception
from mmjax.encoders.packed_vit import PackedViT
from mmjax.encoders.patched_series import PatchedSeries
from mmjax.encoders.pointnet import PointNet
from mmjax.encoders.recurrent import Recurrent, RecurrentSeries
from mmjax.encoders.resnet import ResNet
from mmjax.encoders.set_transformer import SetTransformer
from mmjax.encoders.spectrogram_patches import SpectrogramTransformer
from mmjax.encoders.table_mlp import TableMlp
from mmjax.encoders.table_transformer import TableTransformer
from mmjax.encoders.temporal_convnet import TemporalConvNet
from mmjax.encoders.transformer import Transformer
from mmjax.encoders.vgg import VGG
from mmjax.encoders.video import VideoTransformer
from mmjax.encoders.vit import ViT

# Kind of input -> name in a config -> class. A name has one class in all kinds.
ENCODERS = {
  'image': {
    'vit': ViT,
    'resnet': ResNet,
    'efficientnet': EfficientNet,
    'flexible_vit': FlexibleViT,
    'packed_vit': PackedViT,
    'vgg': VGG,
    'inception': Inception,
  },
  'text': {
    'transformer': Transformer,
    'recurrent': Recurrent,
  },
  'sound': {
    'audio_transformer': AudioTransformer,
    'spectrogram_transformer': SpectrogramTransformer,
    'recurrent_series': RecurrentSeries,
    'temporal_convnet': TemporalConvNet,
    'patched_series': PatchedSeries,
    'audio_convnet': AudioConvNet,
  },
  'video': {
    'video_transformer': VideoTransformer,
    'divided_video_transformer': DividedVideoTransformer,
    'frame_encoder': FrameEncoder,
    'factorised_video_transformer': FactorisedVideoTransformer,
  },
  'series': {
    'patched_series': PatchedSeries,
    'temporal_convnet': TemporalConvNet,
    'recurrent_series': RecurrentSeries,
  },
  'table': {
    'table_transformer': TableTransformer,
    'table_mlp': TableMlp,
  },
  'points': {
    'set_transformer': SetTransformer,
    'pointnet': PointNet,
  },
}

__all__ = [
  'ENCODERS',
  'VGG',
  'AudioConvNet',
  'AudioTransformer',
  'DividedVideoTransformer',
  'EfficientNet',
  'FactorisedVideoTransformer',
  'FlexibleViT',
  'FrameEncoder',
  'FromSamples',
  'ImagePatches',
  'Inception',
  'PackedViT',
  'PatchedSeries',
  'PointNet',
  'Recurrent',
  'RecurrentSeries',
  'ResNet',
  'SetTransformer',
  'SpectrogramTransformer',
  'TableMlp',
  'TableTransformer',
  'TemporalConvNet',
  'Transformer',
  'ViT',
  'VideoTransformer',
  'get_array_and_mask',
]
