"""Predicting on eight devices; run by `test_spread.py`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.evaluators import spread
from mmjax.parallel import mesh


@pytest.mark.parametrize('size', [8, 11, 3])
def test_all_examples_come_back_in_order(size):
  grid = mesh.build({'data': 4, 'fsdp': 2})
  kernel = np.arange(12, dtype=np.float32).reshape(4, 3)
  place = jax.NamedSharding(grid, jax.P('fsdp'))
  params = {'kernel': jax.device_put(kernel, place)}
  shapes = []

  def predict(params, batch):
    shapes.append(batch['x'].shape)
    return jnp.where(batch['mask'][:, None], batch['x'] @ params['kernel'], -1)

  x = np.random.default_rng(0).normal(size=(size, 4)).astype(np.float32)
  mask = np.arange(size) % 3 > 0
  got = spread.jit_over_mesh(predict, dict)(params, {'x': x, 'mask': mask})
  np.testing.assert_allclose(
    got, np.where(mask[:, None], x @ kernel, -1), rtol=1e-5
  )
  assert shapes == [(-(-size // 8) * 8, 4)]


def test_each_device_has_its_part_of_the_batch():
  grid = mesh.build({'data': 4, 'fsdp': 2})
  batch = mesh.shard_whole_batch({'x': np.arange(16), 'y': np.arange(5)}, grid)
  parts = [shard.data.tolist() for shard in batch['x'].addressable_shards]
  assert parts == [[2 * i, 2 * i + 1] for i in range(8)]
  np.testing.assert_array_equal(batch['y'], [0, 1, 2, 3, 4, 0, 0, 0])
