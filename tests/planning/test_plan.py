"""The real step of a config, compiled for devices that are not there."""

import json
import pathlib
import subprocess
import sys

import jax
import pytest

from experiments import contrastive
from mmjax.config import overrides
from mmjax.errors import ConfigError
from mmjax.planning import experiments, step

ROOT = pathlib.Path(__file__).parents[2]


def config(**changed):
  made = overrides.load(f'{ROOT}/configs/clip.py:b16,runlocal')
  overrides.override(
    made, [(k.replace('__', '.'), v) for k, v in changed.items()]
  )
  return made


@pytest.mark.slow
def test_the_command_plans_for_eight_devices(tmp_path):
  file = tmp_path / 'plan.json'
  command = [
    *(sys.executable, '-m', 'mmjax.cli.main', 'plan'),
    *('--topology=h100:8', '--config.mesh.fsdp=2', f'--json={file}'),
    '--config=configs/clip.py:b16,runlocal',
  ]
  done = subprocess.run(
    command, capture_output=True, text=True, cwd=ROOT, check=False
  )
  assert done.returncode == 0, done.stderr
  assert '8 x H100, mesh data=4 fsdp=2, batch 32 (4 a chip)' in done.stdout
  assert 'all-gather         over fsdp' in done.stdout
  assert 'estimated from published peaks: 989 TFLOP/s' in done.stdout
  assert 'for as many CPU devices' in done.stdout
  found = json.loads(file.read_text())
  assert f'{found["parameters"]:,}' in done.stdout
  # Half of the weights and their moments on each; scales and the like whole.
  whole = 4 * found['parameters']
  assert whole / 2 <= found['held']['parameters'] < 0.6 * whole
  assert found['held']['optimizer'] == pytest.approx(
    2 * found['held']['parameters'], rel=1e-3
  )
  assert found['unknown_loops'] == []
  gradients = sum(one['sent'] for one in found['sent'] if 'data' in one['axes'])
  # Gradients cross `data` once, as what each device keeps of them.
  assert gradients >= 2 * 3 / 4 * found['held']['parameters'] * 0.9


@pytest.mark.slow
def test_flops_are_those_that_xla_counts():
  made = config(
    train__batch_size='8',
    **dict.fromkeys(['model__image__scan', 'model__text__scan'], 'False'),
    **dict.fromkeys(['model__image__remat', 'model__text__remat'], 'full'),
  )
  devices = jax.devices()[:1]
  compiled = step.compile_step(made, contrastive.build, devices)
  counted = compiled.compiled.cost_analysis()['flops']
  # XLA also counts other work than products; nothing here is in a loop.
  assert 1.0 <= counted / compiled.flops < 1.35
  # A layer is computed again for its gradient: four thirds, about.
  assert 1.2 < compiled.flops / compiled.useful_flops < 1.35
  pixels = 8 * 64 * 64 * 3  # Bytes; the texts take 3,120 more.
  assert pixels < compiled.held['batch'] < pixels + 4_000


@pytest.mark.slow
def test_what_makes_a_step_fit_is_not_useful(monkeypatch):
  monkeypatch.setattr(step, '_compile', lambda traced: (None, ''))
  small = {'model__image__depth': '1', 'model__text__depth': '1'}
  fits = {
    'train__accumulate': '4',
    'tasks__contrastive__tile': '8',
    'tasks__contrastive__ring': 'True',
  }
  plain, other = (
    step.compile_step(
      config(**small, **changed), contrastive.build, jax.devices()[:1]
    )
    for changed in ({}, fits)
  )
  assert other.useful_flops == plain.useful_flops
  # The towers run forward once more for the gradients of what is compared.
  assert other.flops > 1.15 * plain.flops


def test_a_mesh_or_model_that_is_not_possible_is_refused():
  for changed, message in (
    ({'mesh__data': '2'}, 'the sizes multiply to 2, but there is 1 device'),
    ({'model__image__patch_size': '7'}, 'not divisible by patch size 7'),
  ):
    with pytest.raises(ConfigError, match=message):
      step.compile_step(config(**changed), contrastive.build, jax.devices()[:1])


def test_an_experiment_is_found_by_its_name():
  _, build = experiments.load(config())
  assert build is contrastive.build
  with pytest.raises(ConfigError, match=r'no module experiments\.none'):
    experiments.load(config(experiment='none'))
  with pytest.raises(ConfigError, match='names no experiment'):
    experiments.load(config(experiment=''))
