"""What a task is: all that the rest of mmjax asks about one."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Protocol

import flax.linen as nn

from mmjax import evaluators
from mmjax.data import preprocess as preprocessing
from mmjax.data import sources, tokenizers
from mmjax.types import Array, Batch, Objective, Params, Setting

Weight = Annotated[float, Setting(minimum=0, below=math.inf)]
# What a batch may have besides images.
BATCH_KEYS = ('text', 'question', 'answer', 'label')
# Flags of `mmjax predict` that ask for a task; '' for an image alone.
FLAGS = ('', 'text', 'question')


@dataclasses.dataclass(frozen=True)
class Row:
  """A row of `mmjax report`.

  Attributes:
    label: what was measured.
    value: name of the metric, such as 'vqa/accuracy'.
    chance: name of the metric of a guess; None for no such metric.
    blind: name of the blind baseline's metric; None for no such metric.
  """

  label: str
  value: str
  chance: str | None = None
  blind: str | None = None


@dataclasses.dataclass(frozen=True)
class Split:
  """A data split on which a task is evaluated.

  Attributes:
    model: the Linen module.
    source: records of the split.
    preprocess: from records to arrays.
    config: the completed config; `eval` has the settings of evaluators.
    prefix: what the names of evaluators begin with: '', or 'SPLIT/'.
    blind: metrics of the blind baseline on this split, by name.
  """

  model: nn.Module
  source: sources.Source
  preprocess: preprocessing.Preprocessor
  config: Any
  prefix: str = ''
  blind: Mapping[str, float] = dataclasses.field(default_factory=dict)

  def settings(self) -> dict[str, int]:
    """The arguments that all evaluators have."""
    return {
      'batch_size': self.config.eval.batch_size,
      'num_examples': self.config.eval.num_examples,
    }


class TrainedModel(Protocol):
  """A trained model, as the methods of tasks use it.

  `mmjax.runs.rebuild.Run` is one. An image is a file's path, a Pillow image or
  uint8 [H, W, 3].
  """

  config: Any
  module: nn.Module
  params: Params
  preprocess: preprocessing.Preprocessor
  tasks: 'Mapping[str, Task]'

  @property
  def tokenizer(self) -> tokenizers.Tokenizer:
    """Texts to ids and back."""

  def unable(self, what: str) -> str:
    """The message that the model was not trained to do something."""

  def predict(
    self, make: Callable[..., Any], batch: Batch, **settings: Any
  ) -> Array:
    """Output of a function of `mmjax.models.predict`, compiled once."""

  def image_batch(self, image: Any) -> Batch:
    """Arrays of images, as the model takes them."""

  def question_batch(self, image: Any, questions: str | Sequence[str]) -> Batch:
    """Arrays of images and of a question about each."""

  def text_batch(
    self,
    key: str,
    texts: str | Sequence[str],
    length: int,
    *,
    as_input: bool = False,
  ) -> Batch:
    """Arrays `key` and its mask [B, length]; see `Tokenizer.encode`."""

  def decode(self, ids: Array) -> list[str]:
    """Texts of token ids [B, T]."""


# (trained model, image uint8 [H, W, 3], texts, beam size) -> lines.
Print = Callable[[TrainedModel, Any, Sequence[str], int], list[str]]


@dataclasses.dataclass(frozen=True)
class Prompt:
  """How `mmjax predict` asks for a task.

  Attributes:
    flag: the flag that asks for it, 'text' or 'question'; '' for an image
      without either.
    lines: makes the lines to print about one image.
    length: name of the preprocessor's length that the flag's texts may have;
      '' for no texts.
  """

  flag: str
  lines: Print
  length: str = ''

  def __post_init__(self):
    if self.flag not in FLAGS:
      raise ValueError(f'flag {self.flag!r} is unknown; use one of {FLAGS}')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
  """What a model is trained for, and all that there is to say about it.

  The fields are the task's settings in a config, `config.tasks.NAME`.

  Attributes:
    weight: factor of its loss; with 0 the task is left out.
    ability: what a trained model can do, a verb phrase for messages.
    batch_keys: what its batches have besides images, of `BATCH_KEYS`.
    rows: what `mmjax report` shows of its results.
    methods: name -> function (trained model, ...), the methods of a trained
      `Run`.
    prompt: how `mmjax predict` asks for it; None where it can't.
  """

  ability: ClassVar[str]
  batch_keys: ClassVar[tuple[str, ...]] = ()
  rows: ClassVar[tuple[Row, ...]] = ()
  methods: ClassVar[Mapping[str, Callable[..., Any]]] = MappingProxyType({})
  prompt: ClassVar[Prompt | None] = None

  weight: Weight = 1.0

  def objective(self) -> Objective:
    """The loss.

    Raises:
      ConfigError: for settings that are not legal together.
    """
    raise NotImplementedError

  def needs(self) -> tuple[str, ...]:
    """What a record must have to be trained on.

    Returns:
      Some of 'image', 'text', 'question' and 'answer'.
    """
    raise NotImplementedError

  def without_images(self) -> 'Task | None':
    """The same task for a blind baseline; None if it can't do without."""
    return None

  def evaluators(self, split: Split) -> Mapping[str, evaluators.Evaluator]:
    """Evaluators of a split, by names that begin with `split.prefix`."""
    raise NotImplementedError
