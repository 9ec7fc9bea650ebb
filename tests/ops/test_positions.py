"""Rotary, sine-cosine and resized positions."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import ops


def test_rotary_turns_pairs_by_hand():
  # K = 4: feature 0 turns with 2 by 1 rad a position, 1 with 3 by 0.01.
  x = jnp.asarray([1.0, 1.0, 0.0, 0.0])[None, None, None]
  turned = ops.rotary(x, jnp.asarray([[3]]))[0, 0, 0]
  expected = [np.cos(3), np.cos(0.03), np.sin(3), np.sin(0.03)]
  # float32 sines of angles up to 3.
  np.testing.assert_allclose(turned, expected, rtol=1e-5)


def test_buckets_by_hand():
  distances = jnp.arange(-9, 4)
  # Four buckets: 0 and 1 alone, then 2 to 3, then 4 (to 8) and beyond.
  buckets = ops.relative_buckets(distances, 4, 8, bidirectional=False)
  assert buckets.tolist() == [
    3,
    3,
    3,
    3,
    3,
    3,
    2,
    2,
    1,
    0,
    0,
    0,
    0,
  ]
  # Two a direction: what is behind a query has the upper half.
  assert ops.relative_buckets(distances, 4, 8, bidirectional=True).tolist() == [
    1
  ] * 9 + [0, 3, 3, 3]
  with pytest.raises(ValueError, match=r'3 buckets up to .* use at least 4'):
    ops.relative_buckets(distances, 3, 8, bidirectional=True)


def test_buckets_widen_up_to_the_largest_distance():
  distances = -jnp.arange(200)
  buckets = np.asarray(
    ops.relative_buckets(distances, 32, 128, bidirectional=False)
  )
  assert buckets[:16].tolist() == list(range(16))
  assert np.all(np.diff(buckets) >= 0) and set(buckets) == set(range(32))
  widths = np.bincount(buckets)[16:31]
  assert widths.tolist() == [3, 2, 3, 3, 4, 4, 5, 6, 6, 7, 8, 10, 10, 12, 14]
  assert np.all(buckets[128:] == 31)


def test_rotary_keeps_lengths_and_position_0():
  x = np.random.default_rng(0).normal(size=(2, 5, 3, 6)).astype(np.float32)
  turned = ops.rotary(jnp.asarray(x), jnp.arange(5)[None])
  np.testing.assert_array_equal(turned[:, 0], x[:, 0])
  np.testing.assert_allclose(  # Squares in float32.
    jnp.linalg.norm(turned, axis=-1), np.linalg.norm(x, axis=-1), rtol=1e-5
  )


@pytest.mark.parametrize('shift', [1, 11, 97])
def test_rotary_products_depend_on_distance_alone(shift):
  rng = np.random.default_rng(0)
  query, key = (jnp.asarray(rng.normal(size=(1, 1, 1, 8))) for _ in range(2))

  def product(at_query, at_key):
    turned = ops.rotary(query, jnp.asarray([[at_query]]))
    return jnp.sum(turned * ops.rotary(key, jnp.asarray([[at_key]])))

  # Angles up to 100 rad have an error of 1e-5 in float32.
  np.testing.assert_allclose(
    product(5, 2), product(5 + shift, 2 + shift), atol=1e-4
  )


def test_rotary_keeps_the_dtype_and_each_example_its_positions():
  x = jnp.ones((2, 1, 1, 2), jnp.bfloat16)
  turned = ops.rotary(x, jnp.asarray([[0], [7]]))
  assert turned.dtype == jnp.bfloat16
  assert turned[0, 0, 0, 0] == 1
  assert turned[1, 0, 0, 0] != 1


def test_rotary_of_an_odd_head_is_refused():
  with pytest.raises(ValueError, match='head size 5 is odd'):
    ops.rotary(jnp.ones((1, 1, 1, 5)), jnp.zeros((1, 1), int))


def test_rotary_frequencies_are_scaled():
  plain = ops.rotary_frequencies(6, 1000.0)
  np.testing.assert_allclose(plain, [1, 0.1, 0.01])
  linear = ops.rotary_frequencies(6, 1000.0, {'kind': 'linear', 'factor': 4})
  np.testing.assert_allclose(linear, plain / 4)
  # In 200 pi positions they turn 100, 10 and 1 times: above `high`, half way
  # from `low` to it, and below `low`.
  scaling = {'kind': 'llama3', 'factor': 4, 'length': 200 * np.pi}
  scaling |= {'low': 5, 'high': 15}
  llama = ops.rotary_frequencies(6, 1000.0, scaling)
  np.testing.assert_allclose(llama, [1, 0.1 * (0.5 + 0.5 / 4), 0.01 / 4])
  dynamic = {'kind': 'dynamic', 'factor': 4, 'length': 2}
  unscaled = ops.rotary_frequencies(6, 1000.0, dynamic)
  np.testing.assert_array_equal(unscaled, plain)
  with pytest.raises(ValueError, match='3 tokens is longer than 2, from where'):
    ops.rotary(jnp.ones((1, 3, 1, 6)), jnp.arange(3)[None], scaling=dynamic)
  with pytest.raises(ValueError, match="scaling 'yarn' is unknown"):
    ops.rotary_frequencies(6, 1000.0, {'kind': 'yarn'})


def test_rotary_sections_turn_by_their_own_axis():
  x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 1, 1, 12)))
  rows = ops.rotary(x, jnp.asarray([[3]]))
  columns = ops.rotary(x, jnp.asarray([[7]]))
  both = ops.rotary(x, jnp.asarray([[[3, 7]]]), sections=(2, 4))
  first = np.asarray([0, 1, 6, 7])
  rest = np.delete(np.arange(12), first)
  np.testing.assert_array_equal(both[..., first], rows[..., first])
  np.testing.assert_array_equal(both[..., rest], columns[..., rest])
  one = ops.rotary(x, jnp.asarray([[3]]), sections=(2, 4))
  np.testing.assert_array_equal(one, rows)


def test_interleaved_sections_take_turns():
  x = jnp.ones((1, 1, 1, 14))
  for axis, pairs in enumerate(([0, 3, 5, 6], [1, 4], [2])):
    positions = jnp.zeros((1, 1, 3), int).at[0, 0, axis].set(2)
    got = ops.rotary(x, positions, sections=(4, 2, 1), interleaved=True)
    turned = np.flatnonzero(np.abs(got - x)[0, 0, 0, :7] > 1e-6)
    assert turned.tolist() == pairs


def test_rotary_axial_sections_restart():
  x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 1, 1, 8)))
  got = ops.rotary(x, jnp.asarray([[[3, 7]]]), sections=(2, 2), axial=True)
  for at, part in ((3, (0, 1, 4, 5)), (7, (2, 3, 6, 7))):
    part = np.asarray(part)
    want = ops.rotary(x[..., part], jnp.asarray([[at]]))
    np.testing.assert_allclose(got[..., part], want, rtol=1e-6)


@pytest.mark.parametrize(
  ('positions', 'sections', 'message'),
  [
    ((1, 1, 2), None, 'with 2 axes need rotary sections'),
    ((1, 1, 2), (1, 2), r'\(1, 2\) have 3 pairs .* 8 has 4'),
  ],
)
def test_rotary_axes_that_do_not_fit_are_refused(positions, sections, message):
  with pytest.raises(ValueError, match=message):
    ops.rotary(
      jnp.ones((1, 1, 1, 8)), jnp.zeros(positions, int), sections=sections
    )


def test_sincos_1d_by_hand():
  # Width 4: frequencies 1 and 1 / theta.
  table = ops.sincos_1d(3, 4, theta=100.0)
  expected = [
    [np.sin(p), np.sin(p / 100), np.cos(p), np.cos(p / 100)] for p in range(3)
  ]
  np.testing.assert_allclose(table, expected, rtol=1e-6)  # float32


def test_interleaved_sincos_1d_by_hand():
  # Width 4: frequencies 1 and theta^-1/2.
  table = ops.sincos_1d(3, 4, theta=100.0, interleaved=True)
  expected = [
    [np.sin(p), np.cos(p), np.sin(p / 10), np.cos(p / 10)] for p in range(3)
  ]
  np.testing.assert_allclose(table, expected, rtol=1e-6)  # float32


def test_sincos_2d_by_hand():
  # Rows first; columns fill the first half. Width 4: one frequency, 1.
  table = ops.sincos_2d(2, 3, 4)
  expected = [
    [np.sin(column), np.cos(column), np.sin(row), np.cos(row)]
    for row in range(2)
    for column in range(3)
  ]
  np.testing.assert_allclose(table, expected, rtol=1e-6)  # float32


def test_widths_that_do_not_divide_are_refused():
  with pytest.raises(ValueError, match='even width, got 5'):
    ops.sincos_1d(3, 5)
  with pytest.raises(ValueError, match='divisible by 4, got 6'):
    ops.sincos_2d(2, 3, 6)


@pytest.mark.parametrize('antialias', [False, True])
def test_resized_positions_keep_constants_and_their_own_size(antialias):
  resize = functools.partial(ops.resize_positions, antialias=antialias)
  table = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5, 2)))
  np.testing.assert_allclose(resize(table, 3, 5), table, atol=1e-6)
  # Weights sum to 1, in float32.
  np.testing.assert_allclose(
    resize(jnp.ones((3, 5, 2)), 7, 2), np.ones((7, 2, 2)), rtol=1e-5
  )
  turned = resize(table.transpose(1, 0, 2), 2, 7).transpose(1, 0, 2)
  np.testing.assert_allclose(resize(table, 7, 2), turned, atol=1e-6)


def test_resized_positions_by_hand():
  table = jnp.asarray([0.0, 1.0, 0.0, 0.0]).reshape(4, 1, 1)
  # Halved: the new places lie at 0.5 and 2.5. Without antialiasing they take
  # -3/32 of what is 1.5 away and 19/32 of what is 0.5 away.
  got = ops.resize_positions(table, 2, 1)[:, 0, 0]
  np.testing.assert_allclose(got, [19 / 32, -3 / 32], rtol=1e-6)
  # With it distances halve: 0.25 and 0.75 away, of 0.25, 0.25, 0.75 and 1.25.
  near, middle, far = 0.8671875, 0.2265625, -0.0703125
  got = ops.resize_positions(table, 2, 1, antialias=True)[:, 0, 0]
  whole = 2 * near + middle + far
  np.testing.assert_allclose(got, [near / whole, middle / whole], rtol=1e-6)


def test_sampled_positions_by_hand():
  """Corners have those of the table; one in the middle has their mean."""
  table = jnp.asarray([[[0.0], [2.0]], [[4.0], [6.0]]])
  places = jnp.asarray([[[0, 0], [2, 2], [1, 1], [0, 0]]])
  grids = jnp.asarray([[[3, 3], [3, 3], [3, 3], [1, 1]]])
  got = ops.sample_positions(table, places, grids)
  np.testing.assert_allclose(got[0, :, 0], [0, 6, 3, 0])


def test_positions_on_grids_by_hand():
  table = jnp.asarray([[0.0, 1.0], [2.0, 3.0]])[:, :, None]
  grids = jnp.asarray([[2, 2], [1, 2], [1, 4]])
  places = ops.positions_on_grids(table, grids, 4)[:, :, 0]
  # Its own size; the mean of both rows; between the columns.
  np.testing.assert_allclose(places[0], [0, 1, 2, 3], atol=1e-6)
  np.testing.assert_allclose(places[1, :2], [1, 2], atol=1e-6)
  np.testing.assert_allclose(places[2], [1, 1.25, 1.75, 2], atol=1e-6)
