"""Every field of the config's fixed sections: type, default, range, meaning."""

import dataclasses

from mmjax.config import adapter_fields
from mmjax.config.fields import Field

TOP = {
  'experiment': Field(
    'str', '', 'experiment: a module of experiments/, another module, or a file'
  ),
  'seed': Field('int', 0, 'seed of all random numbers', minimum=0),
  'init_from': Field(
    'str',
    '',
    'trained weights to start from: FOLDER, or PART=FOLDER,..., where a part '
    'may be encoders.NAME',
  ),
}

DATA = {
  'name': Field('str', '', "name of a prepared data set, or 'synthetic'"),
  'mixture': Field(
    'dict',
    None,
    'name -> dict(name=..., weight=..., ...): several data sets instead of '
    'one, mixed in each batch',
    optional=True,
  ),
  'data_dir': Field(
    'str',
    None,
    'folder of data sets; None: MMJAX_DATA_DIR, or ~/.cache/mmjax/data',
    optional=True,
    resumable=True,
  ),
  'train_split': Field(
    'str', 'train', "split to train on, such as 'train+validation'"
  ),
  'eval_split': Field(
    'str',
    'validation',
    "split of the validation metrics val/...; '': no validation",
  ),
  'test_split': Field('str', 'test', "split of the test metrics; '': no test"),
  'where': Field(
    'dict',
    None,
    'values of metadata fields that training records have',
    optional=True,
  ),
  'eval_where': Field(
    'dict',
    None,
    'values of metadata fields that records of eval_split have',
    optional=True,
  ),
  'extra_splits': Field(
    'strings', (), 'further splits that the last evaluation runs on'
  ),
  'test_where': Field(
    'dict',
    None,
    'values of metadata fields that records of test_split have',
    optional=True,
  ),
  'fields': Field(
    'dict',
    None,
    'field name -> name of that field in a data set that another tool wrote',
    optional=True,
  ),
  'features': Field(
    'dict',
    None,
    'name -> dict(kind=..., ...): arrays of fields besides those of images, '
    'captions and questions',
    optional=True,
  ),
  'blind': Field(
    'bool', False, 'whether to leave all images out, for comparison'
  ),
  'image_size': Field(
    'size', 32, 'image size in pixels: one number or (height, width)'
  ),
  'resize': Field(
    'str',
    'stretch',
    'how images of another aspect ratio get the image size',
    choices=('stretch', 'crop', 'pad'),
  ),
  'mean': Field(
    'floats', (0.5, 0.5, 0.5), 'mean of red, green, blue in [0, 1]'
  ),
  'std': Field(
    'floats',
    (0.5, 0.5, 0.5),
    'standard deviation of red, green, blue in [0, 1]',
  ),
  'augment': Field(
    'plain', (), 'augmentations of training images, in mmjax.data.augment'
  ),
  'scaled_decoding': Field(
    'bool', False, 'whether training decodes large JPEGs at a fraction of size'
  ),
  'tokenizer': Field(
    'str',
    '',
    "tokenizer: 'bytes', a tokenizer.json, or '' for the data set's own",
  ),
  'bos': Field(
    'token',
    None,
    "token that starts a written text; None: the tokenizer's own",
    optional=True,
  ),
  'lower_case': Field(
    'bool', False, 'whether to lower-case texts before the tokenizer'
  ),
  'text_length': Field(
    'int', 32, 'largest number of tokens of a caption', minimum=2
  ),
  'text_fields': Field(
    'dict',
    None,
    'metadata fields appended to captions -> number of their values',
    optional=True,
  ),
  'text_fields_in_evaluation': Field(
    'bool', False, 'whether to append text_fields in evaluation as well'
  ),
  'question_length': Field(
    'int', 32, 'largest number of tokens of a question', minimum=2
  ),
  'num_questions': Field(
    'int',
    1,
    'number of questions about each image of a training batch',
    minimum=1,
  ),
  'answer_length': Field(
    'int', 8, 'largest number of tokens of an answer', minimum=2
  ),
  'num_threads': Field(
    'int', 4, 'number of batches made at once', minimum=0, resumable=True
  ),
  'num_workers': Field(
    'int', 0, 'number of processes that read records', minimum=0, resumable=True
  ),
  'prefetch': Field(
    'int',
    4,
    'number of batches to read ahead',
    minimum=0,
    maximum=1024,
    resumable=True,
  ),
  'on_error': Field(
    'str',
    'raise',
    'what to do about an unreadable training record; evaluation always stops',
    choices=('raise', 'replace'),
    resumable=True,
  ),
  'on_cut': Field(
    'str',
    'raise',
    'what to do before the first step about a length that cuts all texts',
    choices=('raise', 'note'),
    resumable=True,
  ),
}

# Fields of `data` that each source of `data.mixture` may set; None: as there.
SOURCE = {
  'weight': Field(
    'float', 1.0, 'share of the examples, relative to other sources', above=0
  ),
  **{
    name: dataclasses.replace(DATA[name], default=None, optional=True)
    for name in (
      'name',
      'data_dir',
      'train_split',
      'eval_split',
      'test_split',
      'extra_splits',
      'where',
      'eval_where',
      'test_where',
      'fields',
    )
  },
}

OPTIMIZER = {
  'name': Field(
    'str',
    'adamw',
    'update rule',
    choices=('adamw', 'lion', 'adafactor', 'muon', 'sgd'),
  ),
  'lr': Field('float', 1e-3, 'peak learning rate', minimum=0),
  'schedule': Field(
    'str',
    'cosine',
    'learning rate schedule',
    choices=('cosine', 'linear', 'constant', 'rsqrt'),
  ),
  'warmup_steps': Field(
    'int', 0, 'number of steps of linear warm-up', minimum=0
  ),
  'final_lr_fraction': Field(
    'float',
    0.0,
    'learning rate at the end of cosine and linear, as a fraction of lr',
    minimum=0,
    maximum=1,
  ),
  'weight_decay': Field(
    'float',
    0.0,
    'decoupled weight decay, multiplied by the learning rate',
    minimum=0,
  ),
  'b1': Field(
    'float',
    None,
    "momentum decay; None: the optimizer's default",
    minimum=0,
    maximum=1,
    optional=True,
  ),
  'b2': Field(
    'float',
    None,
    "second-moment decay; None: the optimizer's default",
    minimum=0,
    maximum=1,
    optional=True,
  ),
  'eps': Field('float', 1e-8, 'epsilon of Adam and Muon', minimum=0),
  'momentum': Field('float', 0.95, 'momentum of Muon', minimum=0, maximum=1),
  'clip_norm': Field(
    'float', 1.0, 'largest global gradient norm; 0: no clipping', minimum=0
  ),
  'lr_scales': Field(
    'pairs', (), '(regex, factor) on the learning rate; the first match counts'
  ),
  'freeze': Field('strings', (), 'regexes of parameters that are not trained'),
  'no_decay': Field('strings', (), 'regexes of kernels without weight decay'),
  'no_muon': Field(
    'strings', (), 'regexes of kernels that Muon leaves to Adam'
  ),
}

TRAIN = {
  'steps': Field('int', 1000, 'number of updates', minimum=1, resumable=True),
  'batch_size': Field(
    'int', 64, 'examples (of packed data, rows) of an update', minimum=1
  ),
  'accumulate': Field(
    'int', 1, 'number of microbatches of an update', minimum=1, resumable=True
  ),
  'dtype': Field(
    'str',
    'float32',
    'dtype of activations; parameters are float32',
    choices=('float32', 'bfloat16'),
  ),
  'ema_decay': Field(
    'float',
    0.0,
    'decay of the EMA of parameters for evaluation; 0: no EMA',
    minimum=0,
    maximum=1,
  ),
  'blind_baseline': Field(
    'bool', True, 'whether VQA also trains a blind baseline, without images'
  ),
  'log_every': Field(
    'int', 20, 'steps between two log lines', minimum=1, resumable=True
  ),
  'eval_every': Field(
    'int',
    0,
    'steps between two evaluations; 0: only at the end',
    minimum=0,
    resumable=True,
  ),
  'checkpoint_every': Field(
    'int',
    0,
    'steps between two checkpoints; 0: only at the end',
    minimum=0,
    resumable=True,
  ),
  'keep_last': Field(
    'int', 2, 'number of newest checkpoints to keep', minimum=1, resumable=True
  ),
  'keep_best': Field(
    'str',
    '',
    "metric whose best checkpoint is kept, such as 'val/vqa/accuracy'; "
    '--step=best opens it',
    resumable=True,
  ),
  'best_mode': Field(
    'str',
    'max',
    'whether a larger or a smaller keep_best is better',
    choices=('max', 'min'),
    resumable=True,
  ),
  'tensorboard': Field(
    'bool', True, 'whether to write TensorBoard events', resumable=True
  ),
  'wandb_project': Field(
    'str', '', "Weights & Biases project; '': none", resumable=True
  ),
}

MESH = {
  'data': Field(
    'int',
    -1,
    'number of shards of the batch; -1: all remaining devices',
    minimum=-1,
    resumable=True,
  ),
  'fsdp': Field(
    'int',
    1,
    'number of shards of batch and weights (FSDP)',
    minimum=-1,
    resumable=True,
  ),
  'tensor': Field(
    'int',
    1,
    'number of shards of heads and MLPs (tensor parallel)',
    minimum=-1,
    resumable=True,
  ),
  'sequence': Field(
    'int',
    1,
    'number of shards of tokens (sequence parallel)',
    minimum=-1,
    resumable=True,
  ),
  'style': Field(
    'str',
    'pjit',
    "'pjit': jit, the compiler partitions; 'pmap': jit of shard_map, the whole "
    'model on each device',
    choices=('pjit', 'pmap'),
    resumable=True,
  ),
}

EVAL = {
  'batch_size': Field(
    'int',
    64,
    'number of examples of an evaluation batch',
    minimum=1,
    resumable=True,
  ),
  'num_examples': Field(
    'int',
    0,
    'number of examples of a split to evaluate on; 0: all',
    minimum=0,
    resumable=True,
  ),
  'beam_size': Field(
    'int',
    1,
    'beam size of texts that are written; 1: greedy',
    minimum=1,
    resumable=True,
  ),
  'gallery_by': Field(
    'str',
    '',
    'metadata field whose values part retrieval into galleries',
    resumable=True,
  ),
}

SECTIONS = {
  'data': DATA,
  'adapter': adapter_fields.ADAPTER,
  'optimizer': OPTIMIZER,
  'train': TRAIN,
  'mesh': MESH,
  'eval': EVAL,
}
OPEN_SECTIONS = ('model', 'tasks')  # Checked by the experiment's `build`.
