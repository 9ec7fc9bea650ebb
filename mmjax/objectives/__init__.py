"""Pure losses on a model's outputs.

Shape letters are those of `mmjax.types`.
"""

from mmjax.objectives.build import OBJECTIVES, build, needs
from mmjax.objectives.contrastive import (
  Contrastive,
  sigmoid_loss,
  softmax_loss,
)
from mmjax.objectives.text import (
  Captioning,
  VqaClassification,
  VqaGeneration,
  cross_entropy,
  next_token_loss,
)

__all__ = [
  'OBJECTIVES',
  'Captioning',
  'Contrastive',
  'VqaClassification',
  'VqaGeneration',
  'build',
  'cross_entropy',
  'needs',
  'next_token_loss',
  'sigmoid_loss',
  'softmax_loss',
]
