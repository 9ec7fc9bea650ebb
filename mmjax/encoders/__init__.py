"""One modality in, `Tokens` out."""

from mmjax.encoders.flexible_vit import FlexibleViT, ImagePatches
from mmjax.encoders.recurrent import Recurrent
from mmjax.encoders.resnet import ResNet
from mmjax.encoders.transformer import Transformer
from mmjax.encoders.video import VideoTransformer
from mmjax.encoders.vit import ViT

__all__ = [
  'FlexibleViT',
  'ImagePatches',
  'Recurrent',
  'ResNet',
  'Transformer',
  'ViT',
  'VideoTransformer',
]
