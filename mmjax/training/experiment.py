"""Experiments: what the loop trains, and how a config's tasks become one."""

import dataclasses
import functools
from collections.abc import (
  Callable,
  Iterable,
  Iterator,
  Mapping,
  Sequence,
)
from pathlib import Path
from typing import Any, Protocol

import jax

from mmjax import evaluators, models
from mmjax import tasks as tasks_lib
from mmjax.config import components as components_lib
from mmjax.data import feeds
from mmjax.data import variants as variants_lib
from mmjax.data.features import Feature
from mmjax.errors import ConfigError
from mmjax.models import from_config
from mmjax.parallel import mesh as mesh_lib
from mmjax.training.frozen import FrozenModel
from mmjax.types import Batch, Objective, RawBatch, Rollout


class TrainData(Protocol):
  """Batches by number: batch `i` is the same after any restart."""

  def iterate(self, start_step: int) -> Iterator[RawBatch]:
    """This host's rows of global batches start_step, start_step + 1, ..."""


def by_split(
  splits: Iterable[str],
  measures: Callable[[str, str], Mapping[str, evaluators.Evaluator]],
) -> dict[str, dict[str, evaluators.Evaluator]]:
  """Evaluators of an experiment that measures all splits in one way.

  Args:
    splits: 'val', 'test', those of a mixture's sources ('val/SOURCE'), and
      others, which are measured along with 'test'.
    measures: (split, prefix of its names) -> name -> evaluator.
  """
  out: dict[str, dict[str, evaluators.Evaluator]] = {}
  for split in splits:
    phase, prefix = _find_phase(split)
    out.setdefault(phase, {}).update(measures(split, prefix))
  return out


def _find_phase(split: str) -> tuple[str, str]:
  """Whether 'val' or 'test' evaluates a split, and the prefix of its names.

  >>> _find_phase('val'), _find_phase('val/emoji'), _find_phase('compositional')
  (('val', ''), ('val', 'emoji/'), ('test', 'compositional/'))
  """
  phase, _, rest = split.partition('/')
  if phase not in ('val', 'test'):
    phase, rest = 'test', split
  return phase, f'{rest}/' if rest else ''


@dataclasses.dataclass(frozen=True)
class Experiment:
  """What `build(config, mesh)` returns and `mmjax.training.runner.run` trains.

  Attributes:
    model: a Linen module; `model.apply({'params': params}, batch, train=True,
      rngs={'dropout': key})` gives the outputs that the objectives read.
    objectives: name -> (weight, objective).
    train_data: batches of numpy arrays by number.
    init_batch: model inputs of one or two examples as evaluation makes them,
      for shapes: one question an image.
    evaluators: split ('val', 'test') -> name -> evaluator. 'val' runs every
      `train.eval_every` steps and at the end, 'test' once at the end.
    files: file name in the run's folder -> function that writes it at the
      path it is given (the tokenizer, the preprocessing).
    notes: what the user should know before the first step; printed.
    sources: names of a mixture's sources, by the batch's `source_index`; empty
      for batches of one source.
    frozen_models: models that objectives learn from, by the objective's name.
    rollout: what makes examples of the data's with the model, before each
      update; None to train on the data's.
    make_inputs: function from a batch on the device to what model and
      objectives read, a part of the compiled step; by default the batch itself.
    variants: what training batches of different shapes can be; empty where all
      are alike.
  """

  model: Any
  objectives: Mapping[str, tuple[float, Objective]]
  train_data: TrainData
  init_batch: Batch
  evaluators: Mapping[str, Mapping[str, Any]] = dataclasses.field(
    default_factory=dict
  )
  files: Mapping[str, Callable[[Path], None]] = dataclasses.field(
    default_factory=dict
  )
  notes: Sequence[str] = ()
  sources: Sequence[str] = ()
  frozen_models: Mapping[str, FrozenModel] = dataclasses.field(
    default_factory=dict
  )
  rollout: Rollout | None = None
  make_inputs: Callable[[RawBatch], Batch] = dict
  variants: Sequence[variants_lib.Variant] = ()


# (config, mesh) -> Experiment.
Build = Callable[[Any, jax.sharding.Mesh], Experiment]


@dataclasses.dataclass(frozen=True)
class Builder(components_lib.Components):
  """An experiment file's `build`: the tasks of a config, trained together.

  What is trained is the config's `tasks`, whatever the file; `Builder()`
  adds nothing to these. A file of a user's own adds parts: see the attributes.

  Attributes:
    evaluates: names of the tasks that are evaluated; empty for all. The others
      only help to train.
  """

  evaluates: tuple[str, ...] = ()

  def __post_init__(self):
    super().__post_init__()
    unknown = sorted(set(self.evaluates) - set(self.task_table))
    if unknown:
      raise ValueError(
        f'evaluates has {unknown}; use some of {sorted(self.task_table)}'
      )

  def __call__(
    self,
    config: Any,
    mesh: jax.sharding.Mesh,
    blind_metrics: Mapping[str, float] | None = None,
  ) -> Experiment:
    """Builds the experiment that a config describes; see `from_tasks`."""
    return from_tasks(config, mesh, self, blind_metrics)


def from_tasks(
  config: Any,
  mesh: jax.sharding.Mesh,
  builder: Builder | None = None,
  blind_metrics: Mapping[str, float] | None = None,
) -> Experiment:
  """Builds the experiment of a config's tasks.

  Args:
    config: a completed config.
    mesh: devices to train on.
    builder: what the config can name beside mmjax's own, if anything.
    blind_metrics: results of the blind baseline.

  Raises:
    ConfigError: if a setting is refused, before data is read, or the data is.
  """
  builder = builder or Builder()
  built_tasks = builder.build_tasks(config)
  _check_names(config, builder)
  features = feeds.build_features(
    config.data,
    {name: task.batch_keys() for name, task in built_tasks.items()},
    models.list_encoder_inputs(config.model),
    builder.kind_table,
  )
  output_spec = tasks_lib.find_output_spec(built_tasks, features)
  from_config.check(config, features, output_spec, builder.tables)
  feed = _open_feed(config, mesh, built_tasks, features)
  fitted = feed.preprocessor.features
  output_spec = tasks_lib.find_output_spec(built_tasks, fitted)
  tables = builder.tables
  model = from_config.build(config, feed.preprocessor, output_spec, tables)
  objectives = tasks_lib.objectives(built_tasks, fitted)
  frozen = _load_teachers(built_tasks, feed)
  frozen |= _load_references(config, objectives, model, feed)
  evaluated = _get_evaluated(built_tasks, builder)
  judges = _load_judges(evaluated, feed)

  def build_evaluators(split: str, prefix: str) -> dict[str, Any]:
    blind = _of_split(blind_metrics or {}, _find_phase(split)[0])
    named = {'model': model, 'prefix': prefix, 'blind_metrics': blind}
    named['frozen_params'] = {name: x.params for name, x in frozen.items()}
    described = _describe_split(config, feed, split, judges=judges, **named)
    return _build_evaluators(_drop_lacking(evaluated, feed, split), described)

  return Experiment(
    model=model,
    objectives=objectives,
    train_data=feed.train,
    init_batch=feed.init_batch,
    evaluators=by_split(feed.splits, build_evaluators),
    files=feed.files,
    notes=feed.notes,
    sources=feed.sources,
    frozen_models=frozen,
    rollout=_make_rollout(built_tasks, model, feed),
    make_inputs=feed.preprocessor.make_inputs,
    variants=feed.train.variants,
  )


def _describe_split(
  config: Any, feed: feeds.Feed, split: str, **settings: Any
) -> tasks_lib.EvalContext:
  """A split as evaluators get it; `settings` are further fields of it."""
  return tasks_lib.EvalContext(
    source=feed.splits[split],
    train_source=feed.train_source,
    preprocessor=feed.preprocessor,
    config=_of_source(config, feed.sections[split]),
    inputs=models.list_encoder_inputs(config.model),
    lacking={keys for _, keys in feed.lacking.get(split, ())},
    **settings,
  )


def _drop_lacking(
  chosen: Mapping[str, tasks_lib.Task], feed: feeds.Feed, split: str
) -> dict[str, tasks_lib.Task]:
  """Leaves out the tasks for which no record of a split is enough."""
  lacking = feed.lacking.get(split, ())
  return {
    name: task
    for name, task in chosen.items()
    if not all((name, tuple(keys)) in lacking for keys in task.required_keys())
  }


def _of_source(config: Any, section: Mapping[str, Any]) -> Any:
  """The config with the `data` section of one source of its mixture."""
  if config.data.mixture is None:
    return config
  own = config.copy_and_resolve_references()
  with own.unlocked():
    own.data = section
  return own


def _load_teachers(
  chosen: Mapping[str, tasks_lib.Task], feed: feeds.Feed
) -> dict[str, FrozenModel]:
  """The models that tasks learn from, by the task's name."""
  from mmjax.training import teachers  # Slow to import: not for --help.

  found = {
    name: task.find_teacher(feed.preprocessor.features)
    for name, task in chosen.items()
  }
  return {
    name: teachers.load(name, teacher, feed.preprocessor, feed.init_batch)
    for name, teacher in found.items()
    if teacher is not None
  }


def _make_rollout(
  chosen: Mapping[str, tasks_lib.Task], model: Any, feed: feeds.Feed
) -> Rollout | None:
  """What makes training examples with the model, if a task does.

  Raises:
    ConfigError: if two do.
  """
  found = {
    name: task.make_rollout(model, feed.batch_source, feed.preprocessor)
    for name, task in chosen.items()
  }
  found = {name: made for name, made in found.items() if made is not None}
  if len(found) > 1:
    raise ConfigError(
      f'the tasks {" and ".join(found)} both train on what the model makes; '
      'train them one after the other, with init_from'
    )
  return next(iter(found.values()), None)


def _load_references(
  config: Any,
  objectives: Mapping[str, tuple[float, Objective]],
  model: Any,
  feed: feeds.Feed,
) -> dict[str, FrozenModel]:
  """Copies of the initial model that tasks learn from, by the task's name."""
  from mmjax.training import references  # Slow to import: not for --help.

  return {
    name: references.load(name, config, model, feed.init_batch)
    for name, (_, objective) in objectives.items()
    if references.needs_copy(config, objective)
  }


def _load_judges(
  evaluated: Mapping[str, tasks_lib.Task], feed: feeds.Feed
) -> dict[tuple[str, str], evaluators.Judge]:
  """The models in whose spaces evaluators compare, by folder and feature."""
  from mmjax.training import teachers  # Slow to import: not for --help.

  return teachers.load_judges(evaluated, feed.preprocessor)


def _get_evaluated(
  chosen: Mapping[str, tasks_lib.Task], builder: Builder
) -> dict[str, tasks_lib.Task]:
  """The tasks that are evaluated."""
  names = builder.evaluates or chosen
  return {name: task for name, task in chosen.items() if name in names}


def _open_feed(
  config: Any,
  mesh: jax.sharding.Mesh,
  chosen: Mapping[str, tasks_lib.Task],
  built: Mapping[str, Feature],
) -> feeds.Feed:
  """Opens the data with all that the tasks need of it."""
  return feeds.open_feed(
    config.data,
    batch_size=config.train.batch_size,
    seed=config.seed,
    rows=functools.partial(mesh_lib.batch_rows, mesh),
    multiple=mesh_lib.num_batch_shards(mesh) * config.train.accumulate,
    needs={name: task.batch_keys() for name, task in chosen.items()},
    alternatives={name: task.required_keys() for name, task in chosen.items()},
    built=built,
  )


def _check_names(config: Any, builder: Builder) -> None:
  """Refuses a run that nothing could open again.

  Raises:
    ConfigError: if the config uses names that only the experiment has, and
      does not say where the experiment is.
  """
  own = components_lib.own_name(config)
  if own is not None and not config.experiment:
    raise ConfigError(
      f'mmjax has no {own}; is it misspelt? If it is your own, set experiment '
      'to the file or module that has it'
    )


def _build_evaluators(
  chosen: Mapping[str, tasks_lib.Task], context: tasks_lib.EvalContext
) -> dict[str, evaluators.Evaluator]:
  """Evaluators of one split by name."""
  out: dict[str, evaluators.Evaluator] = {}
  context = dataclasses.replace(context, tasks=chosen)
  for name, task in chosen.items():
    built = tasks_lib.make_evaluators(name, task, context)
    if out.keys() & built.keys():
      # Two tasks that are measured in the same way, such as both VQAs.
      below = dataclasses.replace(context, prefix=f'{context.prefix}{name}/')
      built = tasks_lib.make_evaluators(name, task, below)
    out |= built
  return out


def _of_split(
  blind_metrics: Mapping[str, float], split: str
) -> dict[str, float]:
  """The baseline's metrics of one split, by its evaluators' names."""
  return {
    name.removeprefix(f'{split}/'): value
    for name, value in blind_metrics.items()
    if name.startswith(f'{split}/')
  }
