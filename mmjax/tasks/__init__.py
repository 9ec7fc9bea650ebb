"""Tasks: what models are trained for, one file a task."""

from mmjax.tasks.align import Align
from mmjax.tasks.base import Prompt, Row, Split, Task, TrainedModel
from mmjax.tasks.build import (
  build,
  find_masks,
  find_output_sizes,
  find_outputs,
  find_written,
  objectives,
)
from mmjax.tasks.captioning import Captioning
from mmjax.tasks.classify import Classify
from mmjax.tasks.contrastive import Contrastive
from mmjax.tasks.masked import Masked
from mmjax.tasks.match import Match
from mmjax.tasks.regress import Regress
from mmjax.tasks.translate import Translate
from mmjax.tasks.vqa import VqaClassification, VqaGeneration

# The tasks that a config can name; an experiment file may have more.
TASKS = {
  'contrastive': Contrastive,
  'align': Align,
  'classify': Classify,
  'regress': Regress,
  'match': Match,
  'masked': Masked,
  'translate': Translate,
  'captioning': Captioning,
  'vqa_classification': VqaClassification,
  'vqa_generation': VqaGeneration,
}

__all__ = [
  'TASKS',
  'Align',
  'Captioning',
  'Classify',
  'Contrastive',
  'Masked',
  'Match',
  'Prompt',
  'Regress',
  'Row',
  'Split',
  'Task',
  'TrainedModel',
  'Translate',
  'VqaClassification',
  'VqaGeneration',
  'build',
  'find_masks',
  'find_output_sizes',
  'find_outputs',
  'find_written',
  'objectives',
]
