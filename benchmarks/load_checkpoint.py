"""Measures the memory of loading a checkpoint of several files.

Writes a Llama with random parameters into a few files, loads it in a new
process and prints that process's peak memory, next to its limit: the parameters
and the largest file. With --devices it is loaded onto a mesh that splits every
parameter.

  python benchmarks/load_checkpoint.py --layers=28 --shard_gb=1
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
from absl import app, flags

_LAYERS = flags.DEFINE_integer(
  'layers', 28, 'number of layers, 27.3 million parameters each', lower_bound=1
)
_SHARD = flags.DEFINE_float('shard_gb', 1.0, 'largest size of a file in GB')
_DEVICES = flags.DEFINE_integer(
  'devices', 1, 'devices to split the parameters over', lower_bound=1
)
_FOLDER = flags.DEFINE_string('load', '', 'folder to load and report on only')

_CONFIG = {
  'model_type': 'llama',
  'architectures': ['LlamaForCausalLM'],
  'vocab_size': 32000,
  'hidden_size': 1536,
  'intermediate_size': 4096,
  'num_attention_heads': 12,
  'num_key_value_heads': 4,
}
_GB = 1e9


def main(argv):
  """Prints the sizes and the peak."""
  del argv
  if _FOLDER.value:
    print(json.dumps(_load(_FOLDER.value)))
    return
  with tempfile.TemporaryDirectory() as folder:
    _write(pathlib.Path(folder))
    files = [
      p.stat().st_size for p in pathlib.Path(folder).glob('*.safetensors')
    ]
    env = {**os.environ, 'JAX_NUM_CPU_DEVICES': str(_DEVICES.value)}
    output = subprocess.run(
      [sys.executable, __file__, f'--load={folder}'],
      check=True,
      env=env,
      stdout=subprocess.PIPE,
    ).stdout
  result = json.loads(output)
  bound = result['parameters'] + max(files)
  print(f'checkpoint       {sum(files) / _GB:6.2f} GB in {len(files)} files')
  print(f'largest file     {max(files) / _GB:6.2f} GB')
  print(f'parameters       {result["parameters"] / _GB:6.2f} GB')
  print(f'before loading   {result["before"] / _GB:6.2f} GB')
  print(f'peak             {result["peak"] / _GB:6.2f} GB')
  taken = result['peak'] - result['before']
  print(f'taken by loading {taken / _GB:6.2f} GB in {result["seconds"]:.0f} s')
  print(f'bound            {bound / _GB:6.2f} GB, parameters and largest file')


def _write(folder: pathlib.Path) -> None:
  """A checkpoint, made one tensor at a time."""
  from mmjax.ops import tree_paths
  from mmjax.pretrained import checkpoint, keys, llama, tensors

  config = {**_CONFIG, 'num_hidden_layers': _LAYERS.value}
  shapes = tree_paths.flatten(
    checkpoint.shapes(llama.module(config), llama.inputs(config))
  )
  rng = np.random.default_rng(0)

  def made():
    for rule in llama.rules(config):
      shape, names = keys.layers(rule, shapes[rule.ours].shape)
      for name in names:
        size = rule.form.theirs(shape)
        yield name, rng.standard_normal(size, np.float32)

  tensors.write(folder, made(), int(_SHARD.value * _GB))
  (folder / checkpoint.CONFIG).write_text(json.dumps(config))


def _load(folder: str) -> dict[str, float]:
  import jax

  import mmjax
  from mmjax.parallel import mesh as mesh_lib

  mesh = None
  if len(jax.devices()) > 1:
    mesh = mesh_lib.build({'fsdp': -1})
  jax.block_until_ready(jax.numpy.zeros(1))
  before, start = _peak(), time.perf_counter()
  model = jax.block_until_ready(mmjax.load(folder, mesh=mesh).params)
  return {
    'before': before,
    'peak': _peak(),
    'parameters': sum(leaf.nbytes for leaf in jax.tree.leaves(model)),
    'seconds': time.perf_counter() - start,
  }


def _peak() -> int:
  """The most memory this process has held, pages of open files included."""
  for line in pathlib.Path('/proc/self/status').read_text().splitlines():
    if line.startswith('VmHWM'):
      return int(line.split()[1]) * 1024
  raise OSError('/proc/self/status has no VmHWM')


if __name__ == '__main__':
  app.run(main)
