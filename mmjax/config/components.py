"""What a config can name: mmjax's own tasks and models, and an experiment's."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn

from mmjax import models as models_lib
from mmjax import tasks as tasks_lib
from mmjax import types
from mmjax.config import experiment_file, schema
from mmjax.data import features
from mmjax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Components:
  """What a config can name: mmjax's own, and what an experiment adds.

  Attributes:
    tasks: name -> class of a task.
    parts: name of a part of models -> name -> class of a module.
    models: name -> class of a model.
    kinds: kind -> class of a feature, `mmjax.data.features.Feature`.
    sections: names of the config's own sections, whose fields the experiment
      checks.

  Raises:
    ValueError: if a name is one of mmjax's already, or a class is of another
      kind.
  """

  tasks: Mapping[str, type[tasks_lib.Task]] = dataclasses.field(
    default_factory=dict
  )
  parts: Mapping[str, Mapping[str, type]] = dataclasses.field(
    default_factory=dict
  )
  models: Mapping[str, type] = dataclasses.field(default_factory=dict)
  kinds: Mapping[str, type[features.Feature]] = dataclasses.field(
    default_factory=dict
  )
  sections: tuple[str, ...] = ()

  def __post_init__(self):
    taken = {*dir(tasks_lib.TrainedModel)} | {
      *tasks_lib.TrainedModel.__annotations__
    }
    self._check_kinds()
    for name, task in self.tasks.items():
      shadowed = sorted(taken & set(task.methods))
      if shadowed:
        raise ValueError(
          f'{task.__name__}.methods has {shadowed}, which every trained model '
          'has; choose other names'
        )
      if name in tasks_lib.TASKS:
        raise ValueError(
          f'tasks has the name {name!r}, which is that of mmjax.tasks.'
          f'{tasks_lib.TASKS[name].__name__} already; choose another'
        )
    for kind in self.kinds:
      if kind in features.KINDS:
        raise ValueError(
          f'kinds has the name {kind!r}, which is that of mmjax.data.features.'
          f'{features.KINDS[kind].__name__} already; choose another'
        )
    fixed = {*schema.TOP, *schema.SECTIONS, *schema.OPEN_SECTIONS}
    taken = sorted(fixed & set(self.sections))
    if taken:
      raise ValueError(
        f'sections has {taken}, which every config has; choose other names'
      )
    _ = self.tables  # Refuses names that are taken.

  def _check_kinds(self) -> None:
    """Refuses what is not a class of the right kind."""
    wanted = [
      ('tasks', self.tasks, tasks_lib.Task, 'mmjax.tasks.Task'),
      ('models', self.models, nn.Module, 'flax.linen.Module'),
      ('kinds', self.kinds, features.Feature, 'mmjax.data.features.Feature'),
      *(
        (f'parts[{part!r}]', classes, nn.Module, 'flax.linen.Module')
        for part, classes in self.parts.items()
      ),
    ]
    for where, classes, base, name in wanted:
      for key, cls in classes.items():
        if not (isinstance(cls, type) and issubclass(cls, base)):
          raise ValueError(
            f'{where}[{key!r}] is {cls!r}; it must be a class derived from '
            f'{name}'
          )

  @functools.cached_property
  def task_table(self) -> dict[str, type[tasks_lib.Task]]:
    """All tasks that a config can name."""
    return {**tasks_lib.TASKS, **self.tasks}

  @functools.cached_property
  def kind_table(self) -> dict[str, type[features.Feature]]:
    """All kinds of features that a config can name."""
    return {**features.KINDS, **self.kinds}

  @functools.cached_property
  def tables(self) -> models_lib.Tables:
    """All models and parts that a config can name."""
    return models_lib.BUILT_IN.extend(self.models, self.parts)

  def build_tasks(self, config: Any) -> dict[str, tasks_lib.Task]:
    """The tasks of a config, by name; for its blind baseline if it is blind.

    Raises:
      ConfigError: as in `mmjax.tasks.build`.
    """
    return tasks_lib.build(
      config.tasks, self.task_table, blind=config.data.blind
    )

  def numerics_neutral_settings(self) -> frozenset[str]:
    """Settings of models and tasks that don't change what is computed."""
    classes = *self.tables.classes().values(), *self.task_table.values()
    return frozenset(
      name
      for cls in classes
      for name, setting in types.list_field_info(cls).items()
      if setting.without_recompute is not None
    )

  def is_for_evaluation(self, task: str, setting: str = '') -> bool:
    """Whether a task's setting has an effect in evaluation and use alone."""
    found = self.task_table.get(task)
    return found is not None and setting in found.evaluation_only


BUILT_IN = Components()


def of(config: Mapping[str, Any]) -> Components:
  """What a config can name; its experiment file runs only if it is needed.

  Args:
    config: a completed config, or its data as JSON has it.

  Returns:
    `BUILT_IN` if mmjax has all that the config names, or if the experiment
    adds nothing; else the experiment's.

  Raises:
    ConfigError: if the experiment can't be found; it names what the config
      needs it for.
  """
  own = own_name(config)
  if own is None or not config['experiment']:
    return BUILT_IN
  try:
    found = experiment_file.find(config['experiment'])
  except ConfigError as error:
    raise ConfigError(
      f'mmjax has no {own}, and the experiment that may have it cannot be '
      f'opened: {error}; put the file back, or set `experiment` to its path'
    ) from error
  return found if isinstance(found, Components) else BUILT_IN


def own_name(config: Mapping[str, Any]) -> str | None:
  """Something that a config names and mmjax lacks, for messages; or None."""
  return next(_own_names(config), None)


def _own_names(config: Mapping[str, Any]) -> Iterator[str]:
  """What a config names that mmjax lacks, as 'model.image.name=...'."""
  model = config['model']
  name = model.get('name')
  if name is not None and name not in models_lib.MODELS:
    yield f'model.name={name!r}'
  for part, known in models_lib.PARTS.items():
    section = model.get(part)
    name = section.get('name') if hasattr(section, 'get') else None
    if name is not None and name not in known.classes:
      yield f'model.{part}.name={name!r}'
  for name, section in (model.get('encoders') or {}).items():
    encoder = section.get('name')
    if encoder is not None and not any(
      encoder in part.classes for part in models_lib.PARTS.values()
    ):
      yield f'model.encoders.{name}.name={encoder!r}'
  for name, section in (config['data'].get('features') or {}).items():
    if section.get('kind') not in (None, *features.KINDS):
      yield f'data.features.{name}.kind={section["kind"]!r}'
  for task in config['tasks']:
    if task not in tasks_lib.TASKS:
      yield f'tasks.{task}'
  fixed = {*schema.TOP, *schema.SECTIONS, *schema.OPEN_SECTIONS}
  for section, value in config.items():
    if section not in fixed and hasattr(value, 'items'):
      yield f'section {section}'
