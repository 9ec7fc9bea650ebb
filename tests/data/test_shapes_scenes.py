"""Scenes are legal and disjoint, and have no held-out pairs."""

import random

from mmjax.data import shapes_scenes as scenes


def test_held_out_pairs_are_one_a_shape_and_five_colours():
  assert {shape for shape, _ in scenes.HELD_OUT} == set(scenes.SHAPES)
  assert len({color for _, color in scenes.HELD_OUT}) == 5
  assert len(scenes.TRAINED) == 35


def test_rows_and_columns():
  thing = scenes.Object('small', 'red', 'star', 'bottom left')
  assert (thing.row, thing.column) == (2, 0)
  assert scenes.is_held_out(thing)


def test_sampled_scenes_are_in_reading_order():
  rng = random.Random(0)
  for held_out in (False, True):
    for _ in range(200):
      scene = scenes.sample_scene(rng, held_out=held_out)
      cells = [3 * thing.row + thing.column for thing in scene]
      assert 1 <= len(scene) <= 3
      assert cells == sorted(set(cells))
      assert any(map(scenes.is_held_out, scene)) == held_out


def test_scenes_are_distinct_and_avoid_taken_ones():
  rng = random.Random(0)
  taken = set()
  first = scenes.sample_distinct(rng, 150, taken, held_out=False)
  second = scenes.sample_distinct(rng, 150, taken, held_out=False)
  assert len(set(first) | set(second)) == 300
  train = list(scenes.sample_training(rng, 500, taken))
  assert len(train) == 500
  assert taken.isdisjoint(train)


def test_one_seed_gives_one_data_set():
  draws = [
    [scenes.sample_scene(random.Random('s'), held_out=False) for _ in range(3)]
    for _ in range(2)
  ]
  assert draws[0] == draws[1]
