"""Makes the table of docs/plan.md: what large models need on TPU slices.

Compiles each row with `mmjax plan`, which takes minutes on one core. Results
are saved, so that it resumes where it was stopped. Needs libtpu, but no TPU.

  python benchmarks/plan_table.py --folder=plans
  python benchmarks/plan_table.py --folder=plans --only=clip_b16 --show
"""

import json
import pathlib
import subprocess
import sys

from absl import app, flags

_FOLDER = flags.DEFINE_string('folder', 'plans', 'folder of the results')
_ONLY = flags.DEFINE_string(
  'only', '', 'compile only rows whose names contain this'
)
_SHOW = flags.DEFINE_bool(
  'show', False, 'print the saved results; compile nothing'
)

_FILES = {
  'clip_b16': 'clip.py:b16',
  'clip_l14': 'clip.py:l14',
  'siglip_so400m': 'siglip_so400m.py',
  'vlm_2b': 'vlm_2b.py',
}
_PER_CHIP = {'clip_b16': 64, 'clip_l14': 64, 'siglip_so400m': 32, 'vlm_2b': 8}
# Small ones first, each with the large one of the same kind of chip below.
_SLICES = {
  'v5e:4x4': 16,
  'v5p:2x2x4': 16,
  'v6e:4x4': 16,
  'v5e:16x16': 256,
  'v5p:4x8x8': 256,
  'v6e:16x16': 256,
}
_GROWS = {
  'v5e:4x4': 'v5e:16x16',
  'v5p:2x2x4': 'v5p:4x8x8',
  'v6e:4x4': 'v6e:16x16',
}
# Weights of these, with their moments, fit on each chip of 16 GiB; those of all
# on a v5p chip of 95 GiB.
_SMALL = ('clip_b16', 'clip_l14')
_ROOT = pathlib.Path(__file__).parents[1]


def main(_) -> None:
  """Compiles what is missing, and prints the table."""
  folder = pathlib.Path(_FOLDER.value)
  folder.mkdir(parents=True, exist_ok=True)
  rows = [row for row in _rows() if _ONLY.value in _name(*row)]
  for row in rows:
    if not _SHOW.value and not _found(folder, row):
      _plan(folder, *row)
  print(_table(folder, rows))


def _rows() -> list[tuple[str, str, str]]:
  """Config, slice and mesh; small slices first."""
  return [
    (config, topology, mesh)
    for topology in _SLICES
    for config in _PER_CHIP
    for mesh in ('data', 'fsdp')
    if mesh == 'fsdp' or config in _SMALL or topology.startswith('v5p')
  ]


def _name(config: str, topology: str, mesh: str) -> str:
  return f'{config}-{topology.replace(":", "-")}-{mesh}'


def _plan(folder: pathlib.Path, config: str, topology: str, mesh: str) -> None:
  name = _name(config, topology, mesh)
  chips = _SLICES[topology]
  command = [
    *(sys.executable, '-m', 'mmjax.cli.main', 'plan'),
    f'--config=configs/{_FILES[config]}',
    f'--topology={topology}',
    f'--config.train.batch_size={_PER_CHIP[config] * chips}',
    f'--config.mesh.fsdp={16 if mesh == "fsdp" else 1}',
    f'--json={(folder / f"{name}.json").absolute()}',
  ]
  print(f'{name} ...', flush=True)
  done = subprocess.run(
    command, cwd=_ROOT, capture_output=True, text=True, check=False
  )
  (folder / f'{name}.txt').write_text(done.stdout + done.stderr)
  if done.returncode:
    print(f'  {done.stderr.strip().splitlines()[-1][:200]}', flush=True)


def _found(folder: pathlib.Path, row: tuple[str, str, str]) -> dict | None:
  path = folder / f'{_name(*row)}.json'
  return json.loads(path.read_text()) if path.exists() else None


def _table(folder: pathlib.Path, rows: list[tuple[str, str, str]]) -> str:
  lines = [
    '| config | slice | mesh | batch a chip | memory, GiB | TFLOP | sent, MB | '
    'compute, memory, links: ms | MFU, % | compiled with |',
    '|---|---|---|---|---|---|---|---|---|---|',
  ]
  for row in rows:
    found = _found(folder, row)
    if found is None:
      continue
    config, topology, _ = row
    mesh = ', '.join(f'{a} {n}' for a, n in found['mesh'].items() if n > 1)
    ms = ', '.join(f'{1e3 * s:.1f}' for s in found['seconds'].values())
    best, worst = found['step_seconds']
    peak = found['limits']['flops']
    mfu = [100 * found['useful_flops'] / peak / s for s in (worst, best)]
    cells = (
      f'`{config}`',
      topology,
      mesh,
      f'{found["batch_size"] / found["chips"]:g}',
      f'{found["peak_memory"] / 2**30:.2f}',
      f'{found["flops"] / 1e12:.2f}',
      f'{found["bytes_sent"] / 1e6:,.0f}',
      ms,
      f'{mfu[0]:.0f} to {mfu[1]:.0f}',
      found['versions'],
    )
    lines.append(f'| {" | ".join(cells)} |')
  return '\n'.join([*lines, '', *_growth(folder, rows)])


def _growth(folder, rows) -> list[str]:
  """By how much more a chip sends in the large slice than in the small one."""
  out = []
  for config, topology, mesh in rows:
    if topology not in _GROWS:
      continue
    small = _found(folder, (config, topology, mesh))
    large = _found(folder, (config, _GROWS[topology], mesh))
    if small and large:
      more = large['bytes_sent'] / small['bytes_sent'] - 1
      kind = topology.split(':')[0]
      out.append(
        f'{config}, {kind}, {mesh}: {more:+.1%} bytes from 16 to 256 chips'
      )
  return out


if __name__ == '__main__':
  app.run(main)
