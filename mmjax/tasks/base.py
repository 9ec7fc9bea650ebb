"""What a task is: all that the rest of mmjax asks about one."""

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Protocol, TypeVar

import flax.linen as nn

from mmjax import evaluators
from mmjax.data import contact_sheet, sources, tokenizers
from mmjax.data import preprocess as preprocessing
from mmjax.data.features import Feature
from mmjax.errors import ConfigError, choose
from mmjax.types import Array, Batch, FieldInfo, Objective, Params, Rollout

Weight = Annotated[float, FieldInfo(minimum=0, below=math.inf)]
# Flags of `mmjax predict` that ask for a task; '' for inputs alone.
FLAGS = ('', 'text', 'question')

_TaskType = TypeVar('_TaskType')


@dataclasses.dataclass(frozen=True)
class ReportRow:
  """A row of `mmjax report`.

  Attributes:
    label: what was measured.
    metric: name of the metric, such as 'vqa/accuracy'.
    baseline: name of the metric of chance, or of the best constant answer; None
      for no such metric.
    blind_metric: name of the blind baseline's metric; None for no such metric.
    lower_is_better: whether the metric measures an error.
  """

  label: str
  metric: str
  baseline: str | None = None
  blind_metric: str | None = None
  lower_is_better: bool = False


@dataclasses.dataclass(frozen=True)
class TeacherSpec:
  """A trained model that a task's objective learns from.

  Attributes:
    folder: folder of a run or of a published model, or its name on the hub.
    method: method of its module, (batch, argument) -> array [B, n].
    argument: argument of the method: a target, or a feature.
    output_key: name of the output that the objective reads it as.
    size: n; 0 for any.
    inputs: the run's own feature by each that the teacher reads.
    setting: the task's setting that names the folder.
  """

  folder: str
  method: str
  argument: str
  output_key: str
  size: int
  inputs: Mapping[str, str]
  setting: str = 'teacher'


@dataclasses.dataclass(frozen=True)
class EvalContext:
  """What the evaluators of a task are made from, on one data split.

  Attributes:
    model: the Linen module.
    source: records of the split.
    train_source: the records of training.
    preprocessor: function from a record to arrays.
    config: the completed config; `eval` has the settings of evaluators, and
      `data` describes the source of the split alone.
    inputs: features that the model reads.
    prefix: what the names of evaluators begin with: '', or 'SPLIT/'.
    blind_metrics: metrics of the blind baseline on this split, by name.
    lacking: sets of `Task.required_keys` that no record of the split has.
    tasks: all tasks that are evaluated, by name.
    frozen_params: parameters of the frozen models that objectives learn from,
      by the task's name; empty where a trained run is evaluated.
    judges: the models of `Task.find_judge`, by folder and feature.
  """

  model: nn.Module
  source: sources.Source
  train_source: sources.Source
  preprocessor: preprocessing.Preprocessor
  config: Any
  inputs: tuple[str, ...] = ()
  prefix: str = ''
  blind_metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
  lacking: Collection[tuple[str, ...]] = ()
  tasks: 'Mapping[str, Task]' = dataclasses.field(default_factory=dict)
  frozen_params: Mapping[str, Params] = dataclasses.field(default_factory=dict)
  judges: Mapping[Any, evaluators.Judge] = dataclasses.field(
    default_factory=dict
  )

  def settings(self) -> dict[str, int]:
    """The arguments that all evaluators have."""
    return {
      'batch_size': self.config.eval.batch_size,
      'num_examples': self.config.eval.num_examples,
    }


class TrainedModel(Protocol):
  """A trained model, as the methods of tasks use it.

  `mmjax.runs.rebuild.Run` is one.
  """

  config: Any
  module: nn.Module
  params: Params
  preprocessor: preprocessing.Preprocessor
  tasks: 'Mapping[str, Task]'

  @property
  def inputs(self) -> tuple[str, ...]:
    """Features that the model reads, where it names its encoders'."""

  @property
  def tokenizer(self) -> tokenizers.Tokenizer:
    """Texts to ids and back."""

  def unable(self, what: str) -> str:
    """The message that the model was not trained to do something."""

  def predict(
    self, make: Callable[..., Any], batch: Batch, **settings: Any
  ) -> Array:
    """Output of a function of `mmjax.models.predict`, compiled once."""

  def prepare(self, *absent: str, **values: Any) -> Batch:
    """Arrays of values by feature; those of `absent` features are masked."""

  def decode(self, ids: Array) -> list[str]:
    """Texts of token ids [B, T]."""


# (trained model, one value by feature, texts, beam size) -> lines. The beam
# size is None for that of a published model's files.
MakeLines = Callable[
  [TrainedModel, Mapping[str, Any], Sequence[str], int | None], list[str]
]


@dataclasses.dataclass(frozen=True)
class PredictUse:
  """How `mmjax predict` uses a task: the flag that asks for it, what it prints.

  Attributes:
    flag: 'text' or 'question', which asks for it; '' for inputs without either.
    make_lines: makes the lines to print about one set of inputs.
    feature: feature that reads the flag's texts; '' for no texts.
    needs_inputs: whether there must be an input; False where texts are enough.
    draw: (trained model, one value by feature, texts) -> cards of a contact
      sheet, for `--output`; None for a task that draws nothing. Those of the
      flags --seed, --guidance and --copies that it has as keywords can be set.
    needs_output_file: whether the task only draws or plays; then `--output`
      must be set.
    play: (trained model, one value by feature, texts) -> (samples [N], rate) of
      a .wav file, for `--output`; None for a task that makes no sound. It has
      the flags that `draw` may have.
  """

  flag: str
  make_lines: MakeLines
  feature: str = ''
  needs_inputs: bool = True
  draw: Callable[..., list[contact_sheet.Cell]] | None = None
  needs_output_file: bool = False
  play: Callable[..., tuple[Array, int]] | None = None

  def __post_init__(self):
    if self.flag not in FLAGS:
      raise ValueError(f'flag {self.flag!r} is unknown; use one of {FLAGS}')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
  """What a model is trained for, and all that there is to say about it.

  The dataclass fields are the task's settings in a config, `config.tasks.NAME`.

  Attributes:
    weight: factor of its loss; with 0 the task is left out.
    ability: what a trained model can do, a verb phrase for messages.
    report_rows: what `mmjax report` shows of its results.
    methods: name -> function (trained model, ...), the methods of a trained
      `Run`.
    predict_use: the flag of `mmjax predict` that asks for it; None for none.
    embeds: features whose vectors share a space, for `mmjax embed`; the model's
      method `embed(batch, name)` gives those of one.
    evaluation_only: settings that have an effect in evaluation and use alone:
      a run resumes with others.
  """

  ability: ClassVar[str]
  report_rows: ClassVar[tuple[ReportRow, ...]] = ()
  methods: ClassVar[Mapping[str, Callable[..., Any]]] = MappingProxyType({})
  predict_use: ClassVar[PredictUse | None] = None
  embeds: ClassVar[Sequence[str]] = ()
  evaluation_only: ClassVar[tuple[str, ...]] = ()

  weight: Weight = 1.0

  def objective(self, features: Mapping[str, Feature]) -> Objective:
    """The loss.

    Args:
      features: fitted features by name, for losses that depend on them.

    Raises:
      ConfigError: for settings that are not legal together.
    """
    raise NotImplementedError(f'{type(self).__name__} has no objective')

  def check(self) -> None:
    """Refuses settings that are not legal together, before data is read.

    Raises:
      ConfigError: naming the settings.
    """
    self.objective({})

  def batch_keys(self) -> tuple[str, ...]:
    """Keys of the arrays that the data must make.

    Which of them an example must have to be trained on, `required_keys` says;
    by default all. Without an entry in `data.features` there are 'image',
    'text', 'question', 'answer' and 'label'.
    """
    raise NotImplementedError(f'{type(self).__name__} has no needs')

  def required_keys(self) -> Sequence[Sequence[str]]:
    """Sets of arrays of which an example must have one to be trained on."""
    return (self.batch_keys(),)

  def output_sizes(self, features: Mapping[str, Feature]) -> dict[str, int]:
    """Number of outputs that the model needs, by the target's feature.

    Args:
      features: features by name; those that aren't fitted count as of size 1.
    """
    del features
    return {}

  def masked_heads(
    self, features: Mapping[str, Feature]
  ) -> dict[str, dict[str, Any]]:
    """Settings of the heads that predict hidden parts of features.

    Args:
      features: features by name, perhaps not fitted.

    Returns:
      By feature, what `mmjax.models.masking.make_head` gets.
    """
    del features
    return {}

  def target_feature(self) -> str:
    """The text feature that a model writes, where the task chooses it.

    '' for models that write no text, or always the feature `text`.
    """
    return ''

  def list_embedded(self) -> Sequence[str]:
    """The features of which the loss compares embeddings."""
    return self.embeds

  @property
  def classifies(self) -> str:
    """The category that a model trained for the task predicts; '' for none."""
    return ''

  def find_teacher(self, features: Mapping[str, Feature]) -> TeacherSpec | None:
    """The trained model that the objective learns from; None for none.

    Args:
      features: features by name.
    """
    del features
    return None

  def find_judge(self, features: Mapping[str, Feature]) -> TeacherSpec | None:
    """The trained model whose space evaluators compare in; None for none.

    Args:
      features: features by name.
    """
    del features
    return None

  def make_rollout(
    self,
    model: nn.Module,
    source: sources.Source,
    preprocessor: preprocessing.Preprocessor,
  ) -> Rollout | None:
    """What makes training examples with the model; None for those of the data.

    Args:
      model: the Linen module.
      source: the records that training batches are made of.
      preprocessor: what makes them.
    """
    del model, source, preprocessor
    return None

  def check_beside(self, tasks: 'Mapping[str, Task]') -> None:
    """Checks a config's other tasks, where this one depends on them.

    Args:
      tasks: all tasks by name.

    Raises:
      ConfigError: if one that it needs is missing.
    """

  def without_images(self) -> 'Task | None':
    """The same task for a blind baseline; None if it can't do without."""
    return None

  def evaluators(
    self, context: EvalContext
  ) -> Mapping[str, evaluators.Evaluator]:
    """Evaluators of a split, by names that begin with `context.prefix`."""
    raise NotImplementedError(f'{type(self).__name__} has no evaluators')


def prepare_inputs(run: TrainedModel, values: Mapping[str, Any]) -> Batch:
  """Arrays of some of a model's inputs, with the others absent.

  Args:
    run: the trained model.
    values: one value or several by input.

  Raises:
    ConfigError: if there is no value, or one of no input.
  """
  unknown = sorted(set(values) - set(run.inputs))
  if unknown or not values:
    raise ConfigError(
      f'the model reads {", ".join(run.inputs)}, not '
      f'{", ".join(unknown) or "nothing"}'
    )
  absent = [name for name in run.inputs if name not in values]
  return run.prepare(*absent, **values)


def get_target(
  name: str,
  features: Mapping[str, Feature],
  kinds: tuple[type[Feature], ...],
) -> Any:
  """The feature that a task predicts.

  Raises:
    ConfigError: if there is none, or it is of another kind.
  """
  feature = choose(name, features, 'the target')
  if not isinstance(feature, kinds):
    raise ConfigError(
      f'the target {name!r} is of the kind {feature.kind}; use one of the kind '
      f'{" or ".join(kind.kind for kind in kinds)}'
    )
  return feature


def get_image(inputs: Mapping[str, Any]) -> Any:
  """The image among the inputs of `mmjax predict`.

  Raises:
    ConfigError: if there is none.
  """
  if 'image' not in inputs:
    raise ConfigError(
      f'the task needs an image, not only {", ".join(inputs)}; add --image=FILE'
    )
  return inputs['image']


def find_task(run: TrainedModel, kind: type[_TaskType]) -> _TaskType:
  """The run's task of a kind, whose methods the run has."""
  return next(task for task in run.tasks.values() if isinstance(task, kind))
