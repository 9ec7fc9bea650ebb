"""docs/bring_your_own.md runs as it stands, and what it says is refused is."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import numpy as np
import PIL.Image
import pytest

from mmjax import tasks
from mmjax.cli import main
from mmjax.config import experiment_file
from mmjax.data import features
from mmjax.inference import index
from mmjax.runs import checkpoints
from mmjax.training import experiment

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / 'docs/bring_your_own.md').read_text()


@pytest.fixture(scope='module')
def project(tmp_path_factory):
  """The folder that the page describes, with its run trained and resumed."""
  folder = tmp_path_factory.mktemp('own')
  (folder / 'my_project').mkdir()
  PIL.Image.new('RGB', (20, 20), 'red').save(folder / 'photo.png')
  blocks = re.findall(r'```python\n# (\S+)\n(.*?)```', PAGE, re.DOTALL)
  assert len(blocks) == 5
  for name, code in blocks:
    (folder / name).write_text(code)
  for command in _commands('python'):
    subprocess.run(
      [sys.executable, *command[1:]],
      cwd=folder,
      env={'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu', 'HOME': '/tmp'},
      check=True,
    )
  return folder


def _commands(program):
  (block,) = re.findall(r'^    python.*?\n\n', PAGE, re.DOTALL | re.MULTILINE)
  lines = block.replace('\\\n', '').splitlines()
  commands = [shlex.split(line) for line in lines if line]
  return [command for command in commands if command[0] == program]


@pytest.mark.slow
def test_the_run_is_reported_predicts_and_is_loaded(
  project, monkeypatch, capsys
):
  monkeypatch.chdir(project)
  printed = []
  for command in _commands('mmjax'):
    assert main.main(command[1:]) == 0
    printed.append(capsys.readouterr().out)
  report, ranked, answered, embedded, found = printed
  assert 'image to text R@1 (triplet)' in report and 'right answers' in report
  assert ranked.startswith('cosine  text\n') and 'w5 w9' in ranked
  assert answered.split()[:2] == ['prob', 'answer']
  assert '1 unit vectors of 16 numbers, of images' in embedded
  cosine = re.search(r'(-?\d\.\d+)  photo\.png', found)[1]
  assert f'{cosine}  w5 w9' in ranked

  (block,) = re.findall(r'```python\n(import mmjax\n.*?)```', PAGE, re.DOTALL)
  exec(compile(block, 'bring_your_own.md', 'exec'), {})
  shown = re.findall(r'# (.*)', block)
  assert capsys.readouterr().out.splitlines() == shown


@pytest.mark.slow
def test_a_run_is_opened_from_elsewhere(project, monkeypatch, tmp_path, capsys):
  monkeypatch.chdir(tmp_path)
  run, file = str(project / 'runs/own'), project / 'my_project/experiment.py'
  PIL.Image.new('RGB', (20, 20)).save('photo.png')
  predict = ['predict', run, '--image=photo.png', '--question=w1']
  (tmp_path / 'my_project').mkdir()
  (tmp_path / 'my_project/experiment.py').write_text('raise KeyError')
  assert main.main(['report', run]) == 0
  assert main.main(predict) == 0
  printed = capsys.readouterr()
  assert 'image to text R@1 (triplet)' in printed.out
  assert 'note' not in printed.err

  moved = file.with_name('moved.py')
  file.rename(moved)
  try:
    assert main.main(predict) == 2
    message = capsys.readouterr().err
    assert "mmjax has no model.name='matcher', and the experiment" in message
    assert f'{file}, is gone; {tmp_path}/my_project/' in message
    assert '--experiment=FILE' in message
    assert main.main([*predict, f'--experiment={moved}']) == 0
    capsys.readouterr()
    assert main.main(['report', run]) == 0
  finally:
    moved.rename(file)
  printed = capsys.readouterr()
  rows = [line.split()[-3:-1] for line in printed.out.splitlines()]
  assert ['test', 'triplet/image_to_text_r1'] in rows
  assert 'right answers' in printed.out  # Of a task of mmjax.
  assert 'vqa/' not in printed.out
  assert 'the metrics of triplet have their own names' in printed.err


@pytest.mark.slow
@pytest.mark.parametrize(
  ('command', 'message'),
  [
    ('embed runs/own --images=photo.png --output=o.npz', 'the feature'),
    ('search runs/own --index=i.npz --text=a', 'the feature'),
    ('predict runs/own --image=photo.png --text=a', '--text, --task'),
  ],
)
def test_what_a_run_cannot_do_is_said_before_its_weights_are_read(
  command, message, project, monkeypatch, capsys
):
  monkeypatch.chdir(project)

  def read(*_, **__):
    raise AssertionError('weights are read')

  monkeypatch.setattr(checkpoints, 'load_params', read)
  flag = '--feature' if message == 'the feature' else '--task'
  found = index.Index(['a'], np.ones((1, 3)), '', 0, 'image', '', True, {})
  index.save(found, project / 'i.npz')
  assert main.main([*command.split(), f'{flag}=x']) == 2
  assert message in capsys.readouterr().err


@pytest.mark.slow
def test_the_same_file_gives_the_same_classes(project, monkeypatch):
  monkeypatch.chdir(project)
  name = 'my_project/experiment.py'
  assert experiment_file.find(name) is experiment_file.find(name)


@pytest.mark.parametrize(
  'settings, message',
  [
    (
      {'tasks': {'captioning': tasks.Captioning}},
      'captioning.* already; choose another',
    ),
    ({'models': {'vit': nn.Dense}}, "'vit', which is that of ViT already"),
    (
      {'parts': {'image': {'vit': nn.Dense}}},
      "'vit', which is that of ViT alre",
    ),
    ({'parts': {'eye': {}}}, "no part 'eye'; use one of .*'image'"),
    (
      {'kinds': {'image': features.Text}},
      "'image', which is that of .*Image already",
    ),
    ({'sections': ('data',)}, r"sections has \['data'\], which every config"),
    ({'tasks': {'mine': nn.Dense}}, r"tasks\['mine'\] is .* mmjax.tasks.Task"),
    ({'evaluates': ('vqa',)}, r"evaluates has \['vqa'\]; use some of"),
  ],
)
def test_names_that_cannot_be_taken_are_refused(settings, message):
  with pytest.raises(ValueError, match=message):
    experiment.Builder(**settings)
