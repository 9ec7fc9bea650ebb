"""FLOPs of a step with each product once, however the step is made to fit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy

from mmjax import models, objectives
from mmjax.config import settings
from mmjax.training import experiment, flops, model_flops, state, step


def _toy(**optimizer):
  config = settings.complete({**toy.config(), 'optimizer': optimizer})
  made = toy.build(config)
  batch = made.train_data.batch(0)
  params = toy.unbox(state.shapes(made.model, made.init_batch))
  return config, made, params, batch


@pytest.mark.parametrize(
  ('frozen', 'up', 'down'),
  [((), 2, 3), (('up',), 1, 2), (('down',), 2, 2)],
)
def test_forward_and_backward_count_once(frozen, up, down):
  # Forward, gradient of the weights, gradient of the inputs where needed.
  expected = 2 * 8 * 16 * (16 * up + 8 * down)
  assert model_flops.count(*_toy(freeze=frozen)) == expected


def test_an_optimizer_has_products_of_its_own():
  assert model_flops.count(*_toy(name='muon')) == model_flops.count(*_toy())


def _contrastive(remat, **loss):
  tower = {'width': 14, 'depth': 2, 'num_heads': 2, 'mlp_dim': 22}
  model = models.build(
    {
      'name': 'dual_encoder',
      'embed_dim': 10,
      'image': {'name': 'vit', 'patch_size': 3, 'remat': remat, **tower},
      'text': {'name': 'transformer', 'remat': remat, **tower},
    },
    models.DataSizes(vocab_size=13, text_length=5),
  )
  batch = {
    'image': np.zeros((12, 6, 6, 3), np.float32),
    'text': np.ones((12, 5), np.int64),
  }
  made = experiment.Experiment(
    model=model,
    objectives={'contrastive': (1.0, objectives.Contrastive(**loss))},
    train_data=None,
    init_batch={name: array[:2] for name, array in batch.items()},
  )
  params = toy.unbox(state.shapes(model, made.init_batch))
  return settings.default_config(), made, params, batch


def _executed(config, made, params, batch, accumulate=1):
  tx = optax.identity()
  update = step.make_update(
    made.model,
    made.objectives,
    tx,
    lr=lambda _: 0.0,
    trained=jax.tree.map(lambda _: True, params),
    accumulate=accumulate,
  )
  zero = jax.ShapeDtypeStruct((), jnp.uint32)
  first = state.State(zero, zero, params, tx.init(params), None)
  return flops.count(jax.jit(update).trace(first, batch).jaxpr)


@pytest.mark.slow
def test_what_makes_a_step_fit_changes_nothing():
  plain = _contrastive('none')
  must = model_flops.count(*plain)
  assert must == _executed(*plain)
  for accumulate, changed in (
    (1, _contrastive('full', ring=True)),
    (4, _contrastive('none', tile=5)),
  ):
    assert model_flops.count(*changed) == must
    assert _executed(*changed, accumulate=accumulate) > must
