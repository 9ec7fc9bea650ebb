"""Two views of one field, and the labels that tasks on them need beside."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from mmjax import evaluators
from mmjax.data.features import Category, Feature
from mmjax.errors import ConfigError, choose, suggest
from mmjax.tasks import base


def check(
  path: str, features: Mapping[str, Feature], feature: str, view: str
) -> None:
  """Refuses two features that are not views of one field.

  Args:
    path: the setting that names the view, for the message.
    features: features by name.
    feature: feature that the model reads.
    view: feature of the other view.

  Raises:
    ConfigError: if they read different fields, or differ in a setting that is
      not for training alone, such as the size.
  """
  one, other = (choose(name, features, path) for name in (feature, view))
  differences = {
    name: (mine, other.describe_arrays().get(name))
    for name, mine in one.describe_arrays().items()
    if other.describe_arrays().get(name) != mine
  }
  if one.field_name != other.field_name:
    differences['field'] = (one.field_name, other.field_name)
  for name, (mine, theirs) in differences.items():
    raise ConfigError(
      f'{path}={view!r} is not a view of {feature!r}: {name} is {mine!r} for '
      f'data.features.{feature} and {theirs!r} for data.features.{view}; only '
      f'{" and ".join(one.training_only) or "the name"} may differ'
    )


def check_target(
  path: str, target: str, features: Mapping[str, Feature]
) -> Category:
  """The category that a task predicts, of which a record has one class.

  Args:
    path: the task's path in the config.
    target: its name.
    features: features by name.

  Raises:
    ConfigError: if it is not such a category.
  """
  feature = base.get_target(target, features, (Category,))
  if feature.multi_label:
    raise ConfigError(
      f'{path}.target={target!r} has several classes a record '
      f'(data.features.{target}.multi_label), but the softmax of {path} is for '
      'one; use a target of one class'
    )
  return feature


def check_labels(
  path: str, target: str, tasks: Mapping[str, base.Task]
) -> None:
  """Refuses a task without labels where no other task has any.

  Args:
    path: the task's path in the config.
    target: the category that it predicts.
    tasks: all tasks of the config.

  Raises:
    ConfigError: if no other task learns the target.
  """
  learnt = [task.classifies for task in tasks.values() if task.classifies]
  if target not in learnt:
    raise ConfigError(
      f'{path} learns {target!r} without labels, and no task learns it from '
      f'labels; add tasks.classify=dict(target={target!r})'
      f'{suggest(target, learnt)}'
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfViews(base.Task):
  """A task that learns classes from two views of a field, without labels.

  Attributes:
    name: its name in a config.
    setting: name of the setting that names the other view; '' there for none.
    target: feature of the kind category, of one class a record.
    feature: feature that the model reads.
  """

  ability: ClassVar[str] = 'classify'
  name: ClassVar[str]
  setting: ClassVar[str]

  target: str = ''
  feature: str = 'image'

  def check_settings(self) -> None:
    """Refuses a task without a target.

    Raises:
      ConfigError: if it has none.
    """
    if not self.target:
      raise ConfigError(
        f"tasks.{self.name}.target='' names no feature to predict"
      )

  def batch_keys(self) -> tuple[str, ...]:
    view = getattr(self, self.setting)
    return (self.feature, view) if view else (self.feature,)

  def output_sizes(self, features: Mapping[str, Feature]) -> dict[str, int]:
    path = f'tasks.{self.name}'
    check_target(path, self.target, features)
    for view in self.batch_keys()[1:]:
      check(f'{path}.{self.setting}', features, self.feature, view)
    return {}

  def check_beside(self, tasks: Mapping[str, base.Task]) -> None:
    check_labels(f'tasks.{self.name}', self.target, tasks)

  def evaluators(
    self, context: base.EvalContext
  ) -> dict[str, evaluators.Evaluator]:
    del context  # `classify` measures the target.
    return {}
