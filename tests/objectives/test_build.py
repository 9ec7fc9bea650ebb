"""Objectives from plain data."""

import math

import ml_collections
import pytest

from mmjax import objectives


def test_settings_and_weights():
  config = {
    'contrastive': {'kind': 'sigmoid', 'weight': 2},
    'captioning': {'label_smoothing': 0.1},
    'vqa_generation': {'weight': 0.0},
  }
  for form in (config, ml_collections.ConfigDict(config)):
    assert objectives.build(form) == {
      'contrastive': (2.0, objectives.Contrastive('sigmoid')),
      'captioning': (1.0, objectives.Captioning(0.1)),
    }


def test_blind_keeps_what_can_do_without_images():
  built = objectives.build(
    {'contrastive': {}, 'vqa_classification': {'weight': 3.0}}, blind=True
  )
  expected = objectives.VqaClassification(needs_image=False)
  assert built == {'vqa_classification': (3.0, expected)}


@pytest.mark.parametrize(
  'config, message',
  [
    ({'clip': {}}, r"objectives\.clip is unknown; use one of \['captioning'"),
    ({'captioning': {'kind': 1}}, r'objectives\.captioning\.kind is unknown'),
    ({'captioning': {'weight': -1}}, r'captioning\.weight must be a number'),
    ({'captioning': {'weight': math.nan}}, r'weight must be a number from 0'),
    ({'captioning': {'weight': '1'}}, r"must be a number from 0, got '1'"),
    ({'captioning': {'label_smoothing': 7}}, 'label_smoothing must be at lea'),
    ({'vqa_classification': {'label_smoothing': -1}}, 'got -1'),
    ({'contrastive': {'tile': 'a'}}, r"contrastive\.tile must be int, got 'a'"),
    ({'contrastive': {'ring': 1}}, r'contrastive\.ring must be bool, got 1'),
    ({'captioning': {'weight': 0}}, 'objectives is empty; give at least one'),
    ({}, 'objectives is empty'),
    ({'contrastive': {'kind': 'x'}}, "kind 'x' is unknown; use 'softmax'"),
  ],
)
def test_what_cannot_be_built_is_refused(config, message):
  with pytest.raises(ValueError, match=message):
    objectives.build(config)


def test_only_a_contrastive_objective_is_never_blind():
  with pytest.raises(ValueError, match='objectives is empty'):
    objectives.build({'contrastive': {}}, blind=True)
