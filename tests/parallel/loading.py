"""Opens a published folder on eight devices and prints its shards.

python tests/parallel/loading.py FOLDER
"""

import json
import sys

import jax
import numpy as np

import mmjax
from mmjax.ops import tree_paths
from mmjax.parallel import mesh as mesh_lib


def main(folder: str) -> None:
  """Prints, by parameter: its layout, a part's shape, and if it is right."""
  mesh = mesh_lib.build({'fsdp': 4, 'tensor': 2})
  spread = tree_paths.flatten(mmjax.load(folder, mesh=mesh).params)
  whole = tree_paths.flatten(mmjax.load(folder).params)
  assert spread.keys() == whole.keys()
  shards = {}
  for path, leaf in spread.items():
    assert leaf.sharding.mesh == mesh, path
    shards[path] = {
      'spec': str(leaf.sharding.spec),
      'part': leaf.addressable_shards[0].data.shape,
      'devices': len(leaf.sharding.device_set),
      'same': bool(np.array_equal(leaf, whole[path])),
    }
  print(json.dumps(shards))


if __name__ == '__main__':
  jax.config.update('jax_num_cpu_devices', 8)
  main(sys.argv[1])
