"""Tasks from a config."""

import typing
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import ml_collections

from mmjax import evaluators, models, types
from mmjax.data.features import Feature, Turns
from mmjax.errors import ConfigError, suggest
from mmjax.tasks import base
from mmjax.types import Objective


def build(
  config: Mapping[str, Mapping[str, Any]] | ml_collections.ConfigDict,
  table: Mapping[str, type[base.Task]],
  *,
  blind: bool = False,
) -> dict[str, base.Task]:
  """Makes the tasks of a config.

  Args:
    config: settings of each task by its name; tasks of weight 0 are left out.
    table: tasks that a config can name, such as `mmjax.tasks.TASKS`.
    blind: whether to make only the tasks that can be trained without images,
      and these without images, for the blind baseline.

  Returns:
    Tasks by name.

  Raises:
    ConfigError: for an unknown task or setting, a value of the wrong type or
      out of range, or if no task is left.
  """
  built = {}
  for name, settings in config.items():
    if name not in table:
      raise ConfigError(
        f'tasks.{name} is unknown; use one of {sorted(table)}'
        f'{suggest(name, table)}'
      )
    if not isinstance(settings, Mapping | ml_collections.ConfigDict):
      raise ConfigError(
        f'tasks.{name}={settings!r} is not legal: it is a dict of settings; '
        f'tasks.{name}.weight=0 leaves the task out'
      )
    if isinstance(settings, ml_collections.ConfigDict):
      settings = settings.to_dict()
    _check(table[name], settings, f'tasks.{name}')
    task = table[name](**settings)
    try:
      task.check()
    except ConfigError as error:
      if str(error).startswith(f'tasks.{name}.'):
        raise
      raise ConfigError(f'tasks.{name}: {error}') from error
    if blind:
      task = task.without_images()
    if task is not None and task.weight:
      built[name] = task
  if not built:
    able = ' that can be trained without images' if blind else ''
    raise ConfigError(
      f'tasks is empty; give at least one of {sorted(table)}{able} a weight '
      'above 0'
    )
  for task in built.values():
    task.check_beside(built)
  return built


def objectives(
  tasks: Mapping[str, base.Task],
  features: Mapping[str, Feature] = MappingProxyType({}),
) -> dict[str, tuple[float, Objective]]:
  """Weight and objective of each task, by name.

  Args:
    tasks: tasks by name.
    features: fitted features by name, for tasks whose loss depends on them.
  """
  return {
    name: (float(task.weight), task.objective(features))
    for name, task in tasks.items()
  }


def make_evaluators(
  name: str, task: base.Task, context: base.EvalContext
) -> dict[str, evaluators.Evaluator]:
  """Evaluators of a task on a split, by name.

  Args:
    name: the task's name.
    task: the task.
    context: what they are made from.

  Raises:
    ConfigError: if one is not an evaluator.
  """
  made = task.evaluators(context)
  page = '(docs/bring_your_own.md#a-task)'
  if not isinstance(made, Mapping):
    raise ConfigError(
      f'tasks.{name}: {type(task).__name__}.evaluators returned a '
      f'{type(made).__name__}, but it returns a dict of evaluators by name '
      f'{page}'
    )
  for key, evaluator in made.items():
    for method in ('run', 'render'):
      if not callable(getattr(evaluator, method, None)):
        raise ConfigError(
          f'tasks.{name}: the evaluator {key!r}, {type(evaluator).__name__}, '
          f'has no method {method}; an evaluator has run(params), which yields '
          '(name, number), and render(), which returns a Pillow image or None '
          f'{page}'
        )
  return dict(made)


def find_output_spec(
  tasks: Mapping[str, base.Task], features: Mapping[str, Feature]
) -> models.OutputSpec:
  """What a model must return for its tasks.

  Raises:
    ConfigError: if no model can return all of it.
  """
  sizes: dict[str, int] = {}
  masked_heads: dict[str, dict[str, Any]] = {}
  for task in tasks.values():
    sizes |= task.output_sizes(features)
    masked_heads |= task.masked_heads(features)
  return models.OutputSpec(
    sizes,
    _find_output_text(tasks),
    masked_heads,
    _find_embedded(tasks, features),
  )


def _find_embedded(
  tasks: Mapping[str, base.Task], features: Mapping[str, Feature]
) -> tuple[str, ...]:
  """The features that the tasks' model embeds, each alone.

  Raises:
    ConfigError: if one is of conversations with images or sounds.
  """
  found = {}
  for task_name, task in tasks.items():
    for name in task.list_embedded():
      found[name] = None
      feature = features.get(name)
      if isinstance(feature, Turns) and feature.media_names:
        raise ConfigError(
          f'tasks.{task_name} embeds data.features.{name}, whose image='
          f'{feature.image!r}, video={feature.video!r} and sound='
          f'{feature.sound!r}: conversations are embedded without these; set '
          "them to '', and embed images as a feature of their own"
        )
  return tuple(found)


def _find_output_text(tasks: Mapping[str, base.Task]) -> str:
  """The text feature that the tasks' model writes; '' for none.

  Raises:
    ConfigError: if two tasks write different features.
  """
  written = {task.target_feature(): name for name, task in tasks.items()}
  written.pop('', None)
  if len(written) > 1:
    raise ConfigError(
      f'the tasks {" and ".join(written.values())} write different features, '
      f'{" and ".join(written)}; a model has one decoder, so train them apart'
    )
  return next(iter(written), '')


def _check(
  task: type[base.Task], settings: Mapping[str, Any], path: str
) -> None:
  hints = typing.get_type_hints(task, include_extras=True)
  legal = types.list_field_info(task)
  for key, value in settings.items():
    if key not in legal:
      raise ConfigError(
        f'{path}.{key} is unknown; {task.__name__} has {sorted(legal)}'
        f'{suggest(key, legal)}'
      )
    types.check_value(f'{path}.{key}', value, hints[key])
