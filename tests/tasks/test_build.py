"""Tasks from plain data."""

import dataclasses
import math

import ml_collections
import pytest

from mmjax import objectives, tasks
from mmjax.errors import ConfigError


def test_settings_and_weights():
  config = {
    'contrastive': {'kind': 'sigmoid', 'weight': 2},
    'captioning': {'label_smoothing': 0.1},
    'vqa_generation': {'weight': 0.0},
  }
  for form in (config, ml_collections.ConfigDict(config)):
    built = tasks.build(form, tasks.TASKS)
    assert tasks.objectives(built) == {
      'contrastive': (2.0, objectives.Contrastive('sigmoid')),
      'captioning': (1.0, objectives.CaptionGeneration(0.1)),
    }


def test_blind_keeps_what_can_do_without_images():
  built = tasks.build(
    {'contrastive': {}, 'vqa_classification': {'weight': 3.0}},
    tasks.TASKS,
    blind=True,
  )
  expected = objectives.AnswerClassification(needs_image=False)
  assert tasks.objectives(built) == {'vqa_classification': (3.0, expected)}


@pytest.mark.parametrize('name', tasks.TASKS)
def test_what_is_for_evaluation_alone_changes_no_loss(name):
  cls = tasks.TASKS[name]
  fields = {field.name: field for field in dataclasses.fields(cls)}
  others = {'sampler': 'ddim', 'spacing': 'leading'}
  for setting in cls.evaluation_only:
    value = others.get(setting, fields[setting].default)
    value = value or 'x' if isinstance(value, str) else value + 1
    changed = cls(**{setting: value})
    assert changed != cls()
    assert changed.objective({}) == cls().objective({})


@pytest.mark.parametrize(
  'config, message',
  [
    ({'clip': {}}, r"tasks\.clip is unknown; use one of \['align'"),
    ({'captoining': {}}, r"captoining is .*; did you mean 'captioning'\?$"),
    ({'captioning': {'wieght': 1}}, r"wieght is .*; did you mean 'weight'\?$"),
    ({'masked': {}}, r"^tasks\.masked\.feature='' names no feature to hide"),
    ({'captioning': {'weight': -1}}, r'captioning\.weight must be at least 0'),
    ({'captioning': {'weight': math.nan}}, 'weight must be at least 0'),
    ({'captioning': {'weight': '1'}}, r"must be float, got '1'"),
    ({'captioning': {'label_smoothing': 7}}, 'label_smoothing must be at lea'),
    ({'vqa_classification': {'label_smoothing': -1}}, 'got -1'),
    ({'contrastive': {'tile': 'a'}}, r"contrastive\.tile must be int, got 'a'"),
    ({'contrastive': {'ring': 1}}, r'contrastive\.ring must be bool, got 1'),
    ({'captioning': {'weight': 0}}, 'tasks is empty; give at least one'),
    ({}, 'tasks is empty'),
    ({'captioning': 3}, r'tasks\.captioning=3 is not legal: it is a dict'),
    (
      {'contrastive': {'kind': 'x'}},
      "tasks.contrastive: kind='x' is unknown; use 'softmax'",
    ),
  ],
)
def test_what_cannot_be_built_is_refused(config, message):
  with pytest.raises(ValueError, match=message):
    tasks.build(config, tasks.TASKS)


def test_only_a_contrastive_objective_is_never_blind():
  with pytest.raises(ValueError, match='tasks is empty'):
    tasks.build({'contrastive': {}}, tasks.TASKS, blind=True)


@pytest.mark.parametrize(
  'made, message',
  [
    (
      [],
      r'tasks\.own: Task\.evaluators returned a list, but it returns a dict',
    ),
    ({'mine': 3}, "the evaluator 'mine', int, has no method run; an"),
  ],
)
def test_evaluators_of_another_kind_are_named(made, message, monkeypatch):
  monkeypatch.setattr(tasks.Task, 'evaluators', lambda self, context: made)
  with pytest.raises(ConfigError, match=message):
    tasks.make_evaluators('own', tasks.Task(), None)
