"""Conversations with images learn the same on eight devices as on one.

Run by test_conversations.py in a process of eight devices.
"""

import flax.linen as nn
import jax
import numpy as np
import pytest

from mmjax.data import conversation_packing
from mmjax.parallel import mesh as mesh_lib
from mmjax.parallel import rules
from tests.models import conversation_models as cases


@pytest.mark.parametrize('kind', cases.TOKENS)
def test_packed_rows_are_split_over_devices(kind, draw):
  """Each has a row, some of them empty; loss and every gradient."""
  prepare = cases.make_preprocessor(kind)
  source, packed = conversation_packing.pack(
    cases.make_source(kind), prepare, 0
  )
  batch = cases.stack(packed, source, 8)
  model = cases.make_model(kind)
  inputs = prepare.make_inputs(cases.as_arrays(batch))
  params = draw(model, inputs, train=False)['params']
  want = cases.make_measure(model, prepare.make_inputs)(params, batch)
  mesh = mesh_lib.build({'data': 4, 'fsdp': 2})
  with jax.set_mesh(mesh), nn.logical_axis_rules(rules.RULES):
    got = cases.make_measure(model, prepare.make_inputs)(
      jax.device_put(params, mesh_lib.replicated_sharding(mesh)),
      mesh_lib.shard_whole_batch(batch, mesh),
      np.bool_(False),
    )
  cases.check_close(jax.device_get(got), jax.device_get(want))
