"""Kills a run at random times and compares its result with that of another.

Trains one experiment twice from the same config: once without interruption,
once killed with SIGKILL at random times and resumed each time. The final
parameters and optimizer states must be equal bit for bit.

  python benchmarks/kill_and_resume.py --kills=10 --steps=300
"""

import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import app, flags

_KILLS = flags.DEFINE_integer(
  'kills', 10, 'number of times to kill the run', lower_bound=1
)
_STEPS = flags.DEFINE_integer('steps', 300, 'steps of the run', lower_bound=1)
_SAVE_EVERY = flags.DEFINE_integer(
  'save_every', 20, 'steps between saves', lower_bound=1
)
_SEED = flags.DEFINE_integer('seed', 0, 'seed of the times')
_CONFIG = flags.DEFINE_string(
  'config', 'configs/contrastive_shapes.py:runlocal', 'config to train'
)
_EXPERIMENT = flags.DEFINE_string(
  'experiment', 'contrastive', 'name of the experiment file'
)


def main(argv):
  """Prints each kill and whether the results are equal."""
  del argv
  scratch = pathlib.Path(tempfile.mkdtemp(prefix='mmjax-kill-'))
  whole, killed = scratch / 'whole', scratch / 'killed'
  began = time.time()
  subprocess.run(_command(whole), check=True, stdout=subprocess.DEVNULL)
  seconds = time.time() - began
  print(f'undisturbed: {_STEPS.value} steps in {seconds:.0f} s', flush=True)

  draw = random.Random(_SEED.value)
  # A run must get beyond a save now and then, or it would never end.
  longest = 1.5 * seconds * _SAVE_EVERY.value / _STEPS.value + 12
  for kill in range(_KILLS.value):
    process = subprocess.Popen(_command(killed), stdout=subprocess.DEVNULL)
    try:
      process.wait(draw.uniform(1, longest))
      print(f'kill {kill + 1}: the run had already ended')
      break
    except subprocess.TimeoutExpired:
      os.kill(process.pid, signal.SIGKILL)
      process.wait()
      print(f'kill {kill + 1}: saved steps {_saved(killed)}', flush=True)
  subprocess.run(_command(killed), check=True, stdout=subprocess.DEVNULL)

  compared, differ = _differences(whole, killed)
  print(f'{len(differ)} of {compared} arrays differ')
  for name in differ:
    print(f'  {name}')
  shutil.rmtree(scratch)
  sys.exit(1 if differ or not compared else 0)


def _command(workdir: pathlib.Path) -> list[str]:
  return [
    sys.executable,
    '-m',
    f'experiments.{_EXPERIMENT.value}',
    f'--config={_CONFIG.value}',
    f'--workdir={workdir}',
    f'--config.train.steps={_STEPS.value}',
    f'--config.train.checkpoint_every={_SAVE_EVERY.value}',
    '--config.train.eval_every=0',
  ]


def _saved(workdir: pathlib.Path) -> list[int]:
  folder = workdir / 'checkpoints'
  if not folder.is_dir():
    return []
  return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())


def _differences(
  one: pathlib.Path, other: pathlib.Path
) -> tuple[int, list[str]]:
  """How many arrays the last checkpoint has, and which aren't bit-equal."""
  compared, differ = 0, []
  with ocp.StandardCheckpointer() as checkpointer:
    last = one / 'checkpoints' / str(_STEPS.value)
    for item in sorted(p.name for p in last.iterdir() if p.is_dir()):
      if not (last / item / '_METADATA').exists():
        continue
      trees = [
        checkpointer.restore(
          folder.absolute() / 'checkpoints' / str(_STEPS.value) / item
        )
        for folder in (one, other)
      ]
      leaves, others = map(jax.tree_util.tree_leaves_with_path, trees)
      for (path, a), (_, b) in zip(leaves, others, strict=True):
        compared += 1
        a, b = np.asarray(a), np.asarray(b)
        if a.dtype != b.dtype or a.tobytes() != b.tobytes():
          differ.append(f'{item}{jax.tree_util.keystr(path)}')
  return compared, differ


if __name__ == '__main__':
  app.run(main)
