"""Tasks: what models are trained for, one file per task."""

from mmjax.tasks.align import Align
from mmjax.tasks.base import (
  EvalContext,
  PredictUse,
  ReportRow,
  Task,
  TeacherSpec,
  TrainedModel,
)
from mmjax.tasks.build import (
  build,
  find_output_spec,
  make_evaluators,
  objectives,
)
from mmjax.tasks.captioning import Captioning
from mmjax.tasks.chat import Chat
from mmjax.tasks.classify import Classify
from mmjax.tasks.contrastive import Contrastive
from mmjax.tasks.distill import Distill
from mmjax.tasks.draw import Draw
from mmjax.tasks.draw_tokens import DrawTokens
from mmjax.tasks.generate_image import GenerateImage
from mmjax.tasks.generate_sound import GenerateSound
from mmjax.tasks.grpo import Grpo, make_grpo
from mmjax.tasks.masked import Masked
from mmjax.tasks.match import Match
from mmjax.tasks.mean_teacher import MeanTeacher
from mmjax.tasks.prefer import Prefer
from mmjax.tasks.prior import Prior
from mmjax.tasks.pseudo_labels import PseudoLabels
from mmjax.tasks.reconstruct import Reconstruct
from mmjax.tasks.reconstruct_sound import ReconstructSound
from mmjax.tasks.regress import Regress
from mmjax.tasks.translate import Translate
from mmjax.tasks.unclip import Unclip
from mmjax.tasks.unimodal import Unimodal
from mmjax.tasks.vqa import VqaClassification, VqaGeneration

# The tasks that a config can name; an experiment file may have more, such as
# one of `make_grpo`.
TASKS = {
  'contrastive': Contrastive,
  'align': Align,
  'classify': Classify,
  'pseudo_labels': PseudoLabels,
  'mean_teacher': MeanTeacher,
  'distill': Distill,
  'regress': Regress,
  'match': Match,
  'masked': Masked,
  'draw': Draw,
  'draw_tokens': DrawTokens,
  'generate_image': GenerateImage,
  'generate_sound': GenerateSound,
  'prior': Prior,
  'unclip': Unclip,
  'reconstruct': Reconstruct,
  'reconstruct_sound': ReconstructSound,
  'unimodal': Unimodal,
  'translate': Translate,
  'chat': Chat,
  'prefer': Prefer,
  'captioning': Captioning,
  'vqa_classification': VqaClassification,
  'vqa_generation': VqaGeneration,
}

__all__ = [
  'TASKS',
  'Align',
  'Captioning',
  'Chat',
  'Classify',
  'Contrastive',
  'Distill',
  'Draw',
  'DrawTokens',
  'EvalContext',
  'GenerateImage',
  'GenerateSound',
  'Grpo',
  'Masked',
  'Match',
  'MeanTeacher',
  'PredictUse',
  'Prefer',
  'Prior',
  'PseudoLabels',
  'Reconstruct',
  'ReconstructSound',
  'Regress',
  'ReportRow',
  'Task',
  'TeacherSpec',
  'TrainedModel',
  'Translate',
  'Unclip',
  'Unimodal',
  'VqaClassification',
  'VqaGeneration',
  'build',
  'find_output_spec',
  'make_evaluators',
  'make_grpo',
  'objectives',
]
