"""Evaluators: from a predict function and data to named metrics and images."""

from mmjax.evaluators.answers import Answers
from mmjax.evaluators.base import Evaluator
from mmjax.evaluators.captions import PARSERS, Captions, attribute_accuracy
from mmjax.evaluators.classes import Classes
from mmjax.evaluators.conversations import Conversations
from mmjax.evaluators.drawings import Drawings, Judge
from mmjax.evaluators.imagined import Imagined
from mmjax.evaluators.masked import HiddenPatches, HiddenTokens
from mmjax.evaluators.numbers import Numbers
from mmjax.evaluators.preferences import Preferences
from mmjax.evaluators.reconstructions import Reconstructions
from mmjax.evaluators.retrieval import Retrieval
from mmjax.evaluators.rewards import Rewards
from mmjax.evaluators.sound_reconstructions import SoundReconstructions
from mmjax.evaluators.spoken import Spoken
from mmjax.evaluators.texts import Texts

__all__ = [
  'PARSERS',
  'Answers',
  'Captions',
  'Classes',
  'Conversations',
  'Drawings',
  'Evaluator',
  'HiddenPatches',
  'HiddenTokens',
  'Imagined',
  'Judge',
  'Numbers',
  'Preferences',
  'Reconstructions',
  'Retrieval',
  'Rewards',
  'SoundReconstructions',
  'Spoken',
  'Texts',
  'attribute_accuracy',
]
