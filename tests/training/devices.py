"""Trains the toy on as many fake devices as it is told; prints parameters.

python devices.py NUMBER MESH WORKDIR
"""

import json
import os
import sys

number, mesh, workdir = int(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]
os.environ['XLA_FLAGS'] = f'--xla_force_host_platform_device_count={number}'

import jax  # noqa: E402
import toy  # noqa: E402

from mmjax.runs import checkpoints  # noqa: E402
from mmjax.training import runner  # noqa: E402

config = toy.config(batch_size=16, accumulate=2, ema_decay=0.9, steps=4)
config['mesh'] = mesh
steps = int(sys.argv[4]) if len(sys.argv) > 4 else 4
config['train'] |= {'steps': steps}
config['optimizer'] = {'schedule': 'constant'}
assert jax.device_count() == number
runner.run(config, toy.build, workdir)
state = checkpoints.load_params(workdir, ema=False)
print(json.dumps(jax.tree.map(lambda x: x.tolist(), state)))
