"""One modality in, `Tokens` out.

Shape letters are those of `mmjax.types`.
"""

from mmjax.encoders.audio import AudioTransformer, SpectrogramTransformer
from mmjax.encoders.efficientnet import EfficientNet
from mmjax.encoders.flexible_vit import FlexibleViT, ImagePatches
from mmjax.encoders.packed_vit import PackedViT
from mmjax.encoders.query_transformer import QueryTransformer
from mmjax.encoders.recurrent import Recurrent
from mmjax.encoders.resnet import ResNet
from mmjax.encoders.transformer import Transformer
from mmjax.encoders.video import VideoTransformer
from mmjax.encoders.vit import ViT

__all__ = [
  'AudioTransformer',
  'EfficientNet',
  'FlexibleViT',
  'ImagePatches',
  'PackedViT',
  'QueryTransformer',
  'Recurrent',
  'ResNet',
  'SpectrogramTransformer',
  'Transformer',
  'ViT',
  'VideoTransformer',
]
