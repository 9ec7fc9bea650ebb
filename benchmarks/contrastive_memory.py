"""Measures the memory of contrastive losses: whole matrix, tiles, ring.

Compiles the loss and its gradients for a global batch on a mesh of fake
devices, without running them, and prints a table of XLA's temporaries on each
device. Embeddings, their gradients and the model are not included.

  python benchmarks/contrastive_memory.py --tile=1024
"""

import os

from absl import app, flags

_DEVICES = flags.DEFINE_integer('devices', 8, 'fake devices', lower_bound=1)
_WIDTH = flags.DEFINE_integer(
  'width', 512, 'E, size of the embeddings', lower_bound=1
)
_TILE = flags.DEFINE_integer('tile', 1024, 'candidates per tile', lower_bound=1)
_BATCHES = flags.DEFINE_multi_integer(
  'batch', [2**n for n in range(10, 17)], 'global batch sizes'
)
_MB = 1e6


def main(argv):
  """Prints a row for each batch size."""
  del argv
  os.environ['JAX_NUM_CPU_DEVICES'] = str(_DEVICES.value)
  from mmjax import objectives

  tile = _TILE.value
  settings = {
    f'{kind}{name}': {'kind': kind, **chosen}
    for kind in ('softmax', 'sigmoid')
    for name, chosen in (
      ('', {}),
      (f', tile={tile}', {'tile': tile}),
      (', ring', {'ring': True}),
      (f', ring, tile={tile}', {'ring': True, 'tile': tile}),
    )
  }
  print(f'MB a device, {_DEVICES.value} devices, E={_WIDTH.value}\n')
  print(f'| batch | {" | ".join(settings)} |')
  print('|' + '---|' * (len(settings) + 1), flush=True)
  for batch in _BATCHES.value:
    sizes = [
      temporaries(objectives.Contrastive(**chosen), batch) / _MB
      for chosen in settings.values()
    ]
    cells = [f'{size:,.1f}' for size in sizes]
    print(f'| {batch:,} | {" | ".join(cells)} |', flush=True)


def temporaries(objective, batch: int) -> int:
  """Bytes a device, for the loss and its gradients."""
  import jax
  import jax.numpy as jnp

  from mmjax.parallel import mesh as mesh_lib

  mesh = mesh_lib.build({'data': -1})
  split, whole = (
    mesh_lib.batch_sharding(mesh),
    mesh_lib.replicated_sharding(mesh),
  )

  def loss(outputs, image, text):
    loss, _ = objective(
      outputs,
      {'image': image, 'text': text},
      apply=None,
      rng=None,
    )
    return loss

  rows = jax.ShapeDtypeStruct(
    (batch, _WIDTH.value), jnp.float32, sharding=split
  )
  number = jax.ShapeDtypeStruct((), jnp.float32, sharding=whole)
  outputs = {
    'image_embedding': rows,
    'text_embedding': rows,
    'logit_scale': number,
    'logit_bias': number,
  }
  image = jax.ShapeDtypeStruct((batch, 1, 1, 3), jnp.float32, sharding=split)
  text = jax.ShapeDtypeStruct((batch, 1), jnp.int32, sharding=split)
  gradients = jax.tree.map(lambda leaf: leaf.sharding, outputs)
  with jax.set_mesh(mesh):
    step = jax.jit(jax.value_and_grad(loss), out_shardings=(whole, gradients))
    compiled = step.lower(outputs, image, text).compile()
  return compiled.memory_analysis().temp_size_in_bytes


if __name__ == '__main__':
  app.run(main)
