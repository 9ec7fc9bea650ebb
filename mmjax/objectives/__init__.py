"""Pure losses on a model's outputs.

Shape letters are those of `mmjax.types`.
"""

from mmjax.objectives.autoencoding import (
  Autoencoding,
  PerceptualAutoencoding,
  SoundAutoencoding,
)
from mmjax.objectives.blending import Unimodal, blend_weights
from mmjax.objectives.contrastive import (
  Contrastive,
  sigmoid_loss,
  softmax_loss,
)
from mmjax.objectives.correlation import (
  CanonicalCorrelation,
  total_correlation,
)
from mmjax.objectives.denoising import Denoising
from mmjax.objectives.distillation import Distillation
from mmjax.objectives.group_policy import (
  GroupPolicy,
  ReferencedGroupPolicy,
  group_advantages,
)
from mmjax.objectives.masked import (
  MaskedPatches,
  MaskedTokens,
  normalise_patches,
)
from mmjax.objectives.matching import Matching
from mmjax.objectives.media_tokens import (
  MaskedImageTokens,
  NextImageTokens,
  NextSoundTokens,
)
from mmjax.objectives.preference import (
  Preference,
  ReferencedPreference,
  preference_losses,
)
from mmjax.objectives.ranking import Ranking
from mmjax.objectives.targets import Classification, Regression
from mmjax.objectives.text import (
  AnswerClassification,
  AnswerGeneration,
  AssistantGeneration,
  CaptionGeneration,
  TextGeneration,
  cross_entropy,
  next_token_loss,
  token_log_probs,
)
from mmjax.objectives.views import Consistency, PseudoLabeling

__all__ = [
  'AnswerClassification',
  'AnswerGeneration',
  'AssistantGeneration',
  'Autoencoding',
  'CanonicalCorrelation',
  'CaptionGeneration',
  'Classification',
  'Consistency',
  'Contrastive',
  'Denoising',
  'Distillation',
  'GroupPolicy',
  'MaskedImageTokens',
  'MaskedPatches',
  'MaskedTokens',
  'Matching',
  'NextImageTokens',
  'NextSoundTokens',
  'PerceptualAutoencoding',
  'Preference',
  'PseudoLabeling',
  'Ranking',
  'ReferencedGroupPolicy',
  'ReferencedPreference',
  'Regression',
  'SoundAutoencoding',
  'TextGeneration',
  'Unimodal',
  'blend_weights',
  'cross_entropy',
  'group_advantages',
  'next_token_loss',
  'normalise_patches',
  'preference_losses',
  'sigmoid_loss',
  'softmax_loss',
  'token_log_probs',
  'total_correlation',
]
