"""Every field of the config's fixed sections: type, default, range, meaning."""

import dataclasses
import math
from typing import Any


@dataclasses.dataclass(frozen=True)
class Field:
  """What a config field may hold.

  Attributes:
    kind: 'int', 'float', 'number' (an int or a float, as it is written),
      'bool', 'str', 'strings' or 'floats' (tuples), 'size' (int, or two),
      'pairs' (tuple of (str, float)), 'dict', or 'plain': anything that JSON
      can hold.
    default: where the config file doesn't name the field.
    meaning: one line for the user.
    choices: the legal values, if few.
    minimum: smallest legal number.
    maximum: largest legal number.
    optional: whether None is legal.
    later: whether a run may go on with another value than it began with.
  """

  kind: str
  default: Any
  meaning: str
  choices: tuple[str, ...] = ()
  minimum: float | None = None
  maximum: float | None = None
  optional: bool = False
  later: bool = False

  def describe(self) -> str:
    """What is legal, for error messages."""
    words = {
      'int': 'a whole number',
      'float': 'a number',
      'number': 'a number',
      'bool': 'True or False',
      'str': 'a string',
      'strings': 'a tuple of strings',
      'floats': 'a tuple of numbers',
      'size': 'a whole number from 1, or a tuple of two',
      'pairs': 'a tuple of (regular expression, number) pairs',
      'dict': 'a dict',
      'token': "a token's name or id",
      'plain': 'plain data: None, bool, number, string, tuple or dict of those',
    }[self.kind]
    if self.choices:
      words = 'one of ' + ', '.join(repr(choice) for choice in self.choices)
    if self.minimum is not None:
      words += f', at least {self.minimum}'
    if self.maximum is not None:
      words += f', at most {self.maximum}'
    return words + (', or None' if self.optional else '')

  def accepts(self, value: Any) -> bool:
    """Whether `value` is legal; a whole number is a number too."""
    if value is None:
      return self.optional or self.kind == 'plain'
    return (
      _KINDS[self.kind](value)
      and (not self.choices or value in self.choices)
      and (self.minimum is None or value >= self.minimum)
      and (self.maximum is None or value <= self.maximum)
    )


def _is_int(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool)


def _is_float(value: Any) -> bool:
  return _is_int(value) or (isinstance(value, float) and math.isfinite(value))


def _is_tuple(of) -> Any:
  return lambda value: (
    isinstance(value, tuple | list) and all(of(v) for v in value)
  )


def is_plain(value: Any) -> bool:
  """Whether JSON can hold the value (a tuple as a list)."""
  if isinstance(value, tuple | list):
    return all(is_plain(v) for v in value)
  if hasattr(value, 'items'):
    return all(isinstance(k, str) and is_plain(v) for k, v in value.items())
  return value is None or isinstance(value, bool | int | float | str)


def _is_pair(value: Any) -> bool:
  return (
    isinstance(value, tuple | list)
    and len(value) == 2
    and isinstance(value[0], str)
    and _is_float(value[1])
  )


def _is_size(value: Any) -> bool:
  sides = value if isinstance(value, tuple | list) else (value, value)
  return len(sides) == 2 and all(_is_int(s) and s > 0 for s in sides)


_KINDS = {
  'int': _is_int,
  'float': _is_float,
  'number': _is_float,
  'bool': lambda value: isinstance(value, bool),
  'str': lambda value: isinstance(value, str),
  'strings': _is_tuple(lambda value: isinstance(value, str)),
  'floats': _is_tuple(_is_float),
  'size': _is_size,
  'pairs': _is_tuple(_is_pair),
  'token': lambda value: isinstance(value, str) or _is_int(value),
  'dict': lambda value: hasattr(value, 'items') and is_plain(value),
  'plain': is_plain,
}

TOP = {
  'experiment': Field('str', '', 'name of the experiment file'),
  'seed': Field('int', 0, 'source of all randomness', minimum=0),
  'init_from': Field(
    'str',
    '',
    'trained weights to start from: FOLDER, or PART=FOLDER,...',
  ),
}

DATA = {
  'name': Field('str', '', "a prepared data set, or 'synthetic'"),
  'data_dir': Field(
    'str',
    None,
    'where data sets lie; None: the default',
    optional=True,
    later=True,
  ),
  'train_split': Field('str', 'train', 'such as train, train+validation'),
  'eval_split': Field(
    'str', 'validation', "split of the evaluators 'val'; '' for none"
  ),
  'test_split': Field('str', 'test', "split of the evaluators 'test'"),
  'where': Field(
    'dict',
    None,
    'train on records whose fields have these values',
    optional=True,
  ),
  'eval_where': Field('dict', None, 'as where, for eval_split', optional=True),
  'extra_splits': Field(
    'strings', (), 'further splits of the last evaluation, by their names'
  ),
  'test_where': Field('dict', None, 'as where, for test_split', optional=True),
  'fields': Field(
    'dict', None, "our field names -> a foreign data set's", optional=True
  ),
  'blind': Field('bool', False, 'leave the images out, for comparison'),
  'image_size': Field('size', 32, 'pixels; a number or (height, width)'),
  'resize': Field(
    'str',
    'stretch',
    'how images that are not so shaped are made so',
    choices=('stretch', 'crop', 'pad'),
  ),
  'mean': Field('floats', (0.5, 0.5, 0.5), 'of red, green, blue in [0, 1]'),
  'std': Field('floats', (0.5, 0.5, 0.5), 'of red, green, blue in [0, 1]'),
  'augment': Field(
    'plain', (), 'augmentations of training images, see mmjax.data.augment'
  ),
  'tokenizer': Field(
    'str', '', "'bytes', a tokenizer.json, or '': the data set's own"
  ),
  'bos': Field(
    'token',
    None,
    "the token that starts what is written, if not the tokenizer's own",
    optional=True,
  ),
  'lower_case': Field(
    'bool', False, 'whether texts become lower case before the tokenizer'
  ),
  'text_length': Field('int', 32, 'tokens of a caption', minimum=2),
  'text_fields': Field(
    'dict',
    None,
    'metadata fields that captions go on with, and how many of their values',
    optional=True,
  ),
  'text_fields_in_evaluation': Field(
    'bool', False, 'whether they also do so in evaluation'
  ),
  'question_length': Field('int', 32, 'tokens of a question', minimum=2),
  'num_questions': Field(
    'int', 1, 'questions about an image in a training batch', minimum=1
  ),
  'answer_length': Field('int', 8, 'tokens of an answer', minimum=2),
  'num_threads': Field('int', 4, 'reading threads', minimum=0, later=True),
  'num_workers': Field('int', 0, 'reading processes', minimum=0, later=True),
  'prefetch': Field('int', 4, 'batches read ahead', minimum=0, later=True),
  'on_error': Field(
    'str',
    'raise',
    'what an unreadable record does in training; it always stops evaluation, '
    'whose numbers are of all records',
    choices=('raise', 'replace'),
    later=True,
  ),
}

OPTIMIZER = {
  'name': Field(
    'str',
    'adamw',
    'the update rule',
    choices=('adamw', 'lion', 'adafactor', 'muon', 'sgd'),
  ),
  'lr': Field('float', 1e-3, 'peak learning rate', minimum=0),
  'schedule': Field(
    'str',
    'cosine',
    'shape of the learning rate',
    choices=('cosine', 'linear', 'constant', 'rsqrt'),
  ),
  'warmup_steps': Field('int', 0, 'of linear warm-up', minimum=0),
  'final_lr_fraction': Field(
    'float', 0.0, 'of lr at the end of cosine and linear', minimum=0, maximum=1
  ),
  'weight_decay': Field('float', 0.0, 'times the learning rate', minimum=0),
  'b1': Field(
    'float',
    None,
    "momentum; None: the optimizer's own",
    minimum=0,
    maximum=1,
    optional=True,
  ),
  'b2': Field(
    'float',
    None,
    "second-moment decay; None: the optimizer's own",
    minimum=0,
    maximum=1,
    optional=True,
  ),
  'eps': Field('float', 1e-8, 'of Adam and Muon', minimum=0),
  'momentum': Field('float', 0.95, "Muon's", minimum=0, maximum=1),
  'clip_norm': Field(
    'float', 1.0, 'largest global gradient norm; 0: no clipping', minimum=0
  ),
  'lr_scales': Field(
    'pairs', (), 'factors on the learning rate; the first match counts'
  ),
  'freeze': Field('strings', (), 'regexes of parameters to leave as they are'),
  'no_decay': Field('strings', (), 'regexes of kernels without weight decay'),
  'no_muon': Field(
    'strings', (), 'regexes of kernels that Muon leaves to Adam'
  ),
}

TRAIN = {
  'steps': Field('int', 1000, 'updates in the run', minimum=1, later=True),
  'batch_size': Field('int', 64, 'examples of an update', minimum=1),
  'accumulate': Field(
    'int', 1, 'parts a batch is computed in', minimum=1, later=True
  ),
  'dtype': Field(
    'str',
    'float32',
    'of activations; parameters are float32',
    choices=('float32', 'bfloat16'),
  ),
  'ema_decay': Field(
    'float',
    0.0,
    'of the parameter average for evaluation; 0: none',
    minimum=0,
    maximum=1,
  ),
  'blind_baseline': Field(
    'bool', True, 'VQA: also train without images, for comparison'
  ),
  'log_every': Field('int', 20, 'steps', minimum=1, later=True),
  'eval_every': Field(
    'int', 0, 'steps; 0: only at the end', minimum=0, later=True
  ),
  'checkpoint_every': Field(
    'int', 0, 'steps; 0: only at the end', minimum=0, later=True
  ),
  'keep_last': Field(
    'int', 2, 'newest checkpoints kept', minimum=1, later=True
  ),
  'keep_best': Field(
    'str',
    '',
    "metric whose best checkpoint is kept, such as 'val/vqa/accuracy'",
    later=True,
  ),
  'best_mode': Field(
    'str',
    'max',
    'whether more of keep_best is better',
    choices=('max', 'min'),
    later=True,
  ),
  'tensorboard': Field('bool', True, 'write TensorBoard events', later=True),
  'wandb_project': Field(
    'str', '', "Weights & Biases project; '': none", later=True
  ),
}

MESH = {
  'data': Field('int', -1, 'ways to split the batch', minimum=-1, later=True),
  'fsdp': Field(
    'int', 1, 'ways to split batch and weights', minimum=-1, later=True
  ),
  'tensor': Field(
    'int', 1, 'ways to split heads and MLPs', minimum=-1, later=True
  ),
  'sequence': Field('int', 1, 'ways to split tokens', minimum=-1, later=True),
  'style': Field(
    'str',
    'pjit',
    'who inserts collectives',
    choices=('pjit', 'pmap'),
    later=True,
  ),
}

EVAL = {
  'batch_size': Field('int', 64, 'examples at a time', minimum=1, later=True),
  'num_examples': Field('int', 0, 'of a split; 0: all', minimum=0, later=True),
  'beam_size': Field(
    'int',
    1,
    'of written captions and answers; 1: greedy',
    minimum=1,
    later=True,
  ),
  'gallery_by': Field(
    'str',
    '',
    'retrieval among records that agree in this metadata field',
    later=True,
  ),
}

SECTIONS = {
  'data': DATA,
  'optimizer': OPTIMIZER,
  'train': TRAIN,
  'mesh': MESH,
  'eval': EVAL,
}
# What these hold is the experiment's business, checked by its `build`.
OPEN_SECTIONS = ('model', 'objectives')
# Of these, at any depth: how something is computed, not what. A run may go on
# with another value.
HOW = ('remat', 'tile', 'ring')
