"""Measures the memory of a contrastive step, with and without cached gradients.

Compiles the update of a small dual encoder for a global batch on a mesh of fake
devices, without running it, and prints a table of XLA's temporaries on each
device: with the batch in one part and the plain loss, and in
parts of --part examples with the loss in tiles and a ring.

  python benchmarks/cached_memory.py --part=1024
"""

import os

from absl import app, flags

_DEVICES = flags.DEFINE_integer('devices', 8, 'fake devices', lower_bound=1)
_PART = flags.DEFINE_integer(
  'part', 1024, 'examples computed at a time', lower_bound=1
)
_TILE = flags.DEFINE_integer('tile', 1024, 'candidates per tile', lower_bound=1)
_BATCHES = flags.DEFINE_multi_integer(
  'batch', [2**n for n in range(10, 17)], 'global batch sizes'
)
_TOWER = {'width': 64, 'depth': 4, 'num_heads': 4, 'mlp_dim': 256}


def main(argv):
  """Prints a row for each batch size."""
  del argv
  os.environ['JAX_NUM_CPU_DEVICES'] = str(_DEVICES.value)
  part, tile = _PART.value, _TILE.value
  print(f'MB a device, {_DEVICES.value} devices\n')
  print(f'| batch | whole | in parts of {part}, ring, tile={tile} |')
  print('|---|---|---|', flush=True)
  for batch in _BATCHES.value:
    whole = temporaries(batch, 1, {})
    parts = temporaries(batch, batch // part, {'tile': tile, 'ring': True})
    print(f'| {batch:,} | {whole:,.1f} | {parts:,.1f} |', flush=True)


def temporaries(batch: int, accumulate: int, loss: dict) -> float:
  """Temporaries of one update, in MB per device."""
  import jax
  import jax.numpy as jnp

  from mmjax import models, tasks
  from mmjax.config import settings
  from mmjax.parallel import mesh as mesh_lib
  from mmjax.training import experiment, program

  config = settings.complete(
    {'train': {'batch_size': batch, 'accumulate': accumulate}}
  )
  mesh = mesh_lib.build(config.mesh)
  model = models.build(
    {
      'name': 'dual_encoder',
      'embed_dim': 128,
      'image': {'name': 'vit', 'patch_size': 8, **_TOWER},
      'text': {'name': 'transformer', **_TOWER},
    },
    models.DataSizes(vocab_size=256, text_length=16),
  )

  def example(number, place=None):
    shapes = {
      'image': ((number, 32, 32, 3), jnp.float32),
      'text': ((number, 16), jnp.int32),
      'text_mask': ((number, 16), bool),
    }
    return {
      name: jax.ShapeDtypeStruct(shape, dtype, sharding=place)
      for name, (shape, dtype) in shapes.items()
    }

  zeros = {n: jnp.zeros(x.shape, x.dtype) for n, x in example(2).items()}
  made = experiment.Experiment(
    model=model,
    objectives=tasks.objectives(
      tasks.build({'contrastive': loss}, tasks.TASKS)
    ),
    train_data=None,
    init_batch=zeros,
  )
  traced = program.build(config, made, mesh).trace(
    example(batch, mesh_lib.batch_sharding(mesh))
  )
  compiled = traced.lower().compile()
  return compiled.memory_analysis().temp_size_in_bytes / 1e6


if __name__ == '__main__':
  app.run(main)
