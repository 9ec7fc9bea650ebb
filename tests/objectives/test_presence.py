"""Which examples have what an objective needs."""

import jax.numpy as jnp
import pytest

from mmjax.objectives import presence


def test_presence_by_hand():
  batch = {
    'image': jnp.zeros((3, 1, 1, 3)),
    'image_mask': jnp.asarray([True, False, True]),
    'text': jnp.zeros((3, 2), int),
    'text_mask': jnp.asarray([[True, False], [True, True], [False, False]]),
    'question': jnp.zeros((3, 2), int),
  }
  assert presence.presence_mask(batch, 'image').tolist() == [True, False, True]
  assert presence.presence_mask(batch, 'text').tolist() == [True, True, False]
  assert presence.presence_mask(batch, 'question').tolist() == [
    True,
    True,
    True,
  ]
  assert presence.joint_mask(batch, 'image', 'text').tolist() == [
    True,
    False,
    False,
  ]
  batch['mask'] = jnp.asarray([False, True, True])
  assert presence.presence_mask(batch, 'image').tolist() == [False, False, True]


def test_presence_of_several_questions():
  mask = jnp.asarray([[[True, False], [False, False]], [[True, True]] * 2])
  batch = {
    'image': jnp.zeros((2, 1, 1, 3)),
    'question': jnp.zeros((2, 2, 2), int),
    'question_mask': mask,
  }
  there = [[True, False], [True, True]]
  assert presence.joint_mask(batch, 'image', 'question').tolist() == there
  batch['mask'] = jnp.asarray([True, False])
  there = [[True, False], [False, False]]
  assert presence.joint_mask(batch, 'question', 'image').tolist() == there


def test_a_missing_modality_is_named():
  with pytest.raises(KeyError, match=r"needs 'answer', but.*\['image'\]"):
    presence.presence_mask({'image': jnp.zeros((1, 1, 1, 3))}, 'answer')
