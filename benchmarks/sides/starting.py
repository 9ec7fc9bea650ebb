"""Starting: imports, and the time from the command to the first step."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile

from benchmarks.sides.work import Work

_ROOT = pathlib.Path(__file__).parents[2]
_MMJAX_STEP = 'first step after'
_OPEN_CLIP_STEP = 'Train Epoch: 0 ['


def make_import(statement: str, tiny: bool) -> Work:
  """A Python that runs a statement, such as 'import jax', and ends."""
  del tiny

  def run():
    command = [sys.executable, '-c', statement]
    subprocess.run(command, cwd=_ROOT, check=True)

  return Work(run, {}, warm=1)


def make_mmjax(cold: bool, tiny: bool) -> Work:
  """`python -m experiments.contrastive` until its first step is done.

  Args:
    cold: whether nothing is in the compilation cache.
    tiny: whether towers are.
  """
  caches = tempfile.TemporaryDirectory()  # Deleted with `run`.
  size = ',runlocal' if tiny else ''
  command = [
    *(sys.executable, '-m', 'experiments.contrastive'),
    f'--config=configs/clip.py:b16{size}',
    '--config.model.image.patch_size=32',
    '--config.model.image.remat=none',
    '--config.model.text.remat=none',
    '--config.train.dtype=float32',
    '--config.train.batch_size=16',
    '--config.mesh.fsdp=1',
  ]

  def run():
    with tempfile.TemporaryDirectory() as folder:
      _run_until(
        _MMJAX_STEP,
        [*command, f'--workdir={folder}/run'],
        MMJAX_CACHE_DIR=f'{folder}/cache' if cold else caches.name,
      )

  return Work(run, {}, warm=1)


def make_open_clip(tiny: bool) -> Work:
  """open_clip's trainer with the same towers, on its synthetic data."""
  model, batch = ('ViT-S-32-alt', 2) if tiny else ('ViT-B-32', 16)
  command = [
    *(sys.executable, '-m', 'open_clip_train.main'),
    '--dataset-type=synthetic',
    f'--train-num-samples={100 * batch}',
    f'--model={model}',
    f'--batch-size={batch}',
    '--precision=fp32',
    '--epochs=1',
    '--workers=1',
    '--log-every-n-steps=1',
  ]

  def run():
    with tempfile.TemporaryDirectory() as folder:
      _run_until(_OPEN_CLIP_STEP, [*command, f'--logs={folder}'])

  return Work(run, {}, warm=1)


def _run_until(text: str, command: list[str], **environment: str) -> None:
  """Runs a command until it prints a text, and kills it and its children.

  Raises:
    RuntimeError: if it ends before; the error has what it printed last.
  """
  process = subprocess.Popen(
    command,
    cwd=_ROOT,
    env={**os.environ, **environment},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    start_new_session=True,
  )
  lines = []
  try:
    for line in process.stdout:
      lines.append(line)
      if text in line:
        return
  finally:
    if process.poll() is None:
      os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
  raise RuntimeError(f'{" ".join(command)}: {"".join(lines[-20:])}')
