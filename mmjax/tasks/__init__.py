"""Tasks: what models are trained for, one file a task."""

from mmjax.tasks.base import BATCH_KEYS, Prompt, Row, Split, Task, TrainedModel
from mmjax.tasks.build import build, objectives
from mmjax.tasks.captioning import Captioning
from mmjax.tasks.contrastive import Contrastive
from mmjax.tasks.vqa import VqaClassification, VqaGeneration

# The tasks that a config can name; an experiment file may have more.
TASKS = {
  'contrastive': Contrastive,
  'captioning': Captioning,
  'vqa_classification': VqaClassification,
  'vqa_generation': VqaGeneration,
}

__all__ = [
  'BATCH_KEYS',
  'TASKS',
  'Captioning',
  'Contrastive',
  'Prompt',
  'Row',
  'Split',
  'Task',
  'TrainedModel',
  'VqaClassification',
  'VqaGeneration',
  'build',
  'objectives',
]
