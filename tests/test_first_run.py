"""The guide of a first run works, and its Chinese has the same commands."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mmjax.cli import main

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / 'docs/first_run.md'
TRANSLATED = [
  (GUIDE, ROOT / 'docs/first_run.zh.md'),
  (ROOT / 'README.md', ROOT / 'README.zh.md'),
]
# Of the training, which takes a minute.
SHORTER = [
  '--config.train.steps=2',
  '--config.train.batch_size=8',
  '--config.train.eval_every=0',
  '--config.train.checkpoint_every=0',
  '--config.optimizer.warmup_steps=0',
  '--config.eval.num_examples=8',
  '--config.eval.batch_size=8',
  '--config.data.extra_splits=()',
  '--config.data.eval_split=',
  '--config.train.keep_best=',
]


def _blocks(page):
  """The blocks of code of a page, fenced or indented, without comments."""
  text = page.read_text()
  fenced = re.findall(r'^```\w+\n(.*?)^```', text, re.DOTALL | re.MULTILINE)
  indented = re.findall(r'(?:^\n)((?:^ {4}.*\n)+)', text, re.MULTILINE)
  return [
    [line.partition('# ')[0].strip() for line in block.splitlines()]
    for block in fenced + indented
  ]


def _headings(page):
  text = re.sub(r'^```.*?^```', '', page.read_text(), flags=re.DOTALL | re.M)
  return [len(marks) for marks in re.findall(r'^(#+) ', text, re.MULTILINE)]


@pytest.mark.parametrize(
  ('page', 'translated'), TRANSLATED, ids=lambda page: page.name
)
def test_a_translation_has_the_same_commands(page, translated):
  assert _blocks(page) == _blocks(translated)
  assert _headings(page) == _headings(translated)


def test_the_translated_guide_has_the_same_names_and_numbers():
  guide, translated = (page.read_text() for page in TRANSLATED[0])
  for pattern in (r'`([^`\n]+)`', r'\d[\d,.]*\d'):
    named, again = (re.findall(pattern, text) for text in (guide, translated))
    assert {*named} == {*again}


@pytest.mark.slow
def test_the_guide_runs(monkeypatch, tmp_path, capsys):
  (tmp_path / 'configs').symlink_to(ROOT / 'configs')
  (tmp_path / 'experiments').symlink_to(ROOT / 'experiments')
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('MMJAX_DATA_DIR', str(tmp_path / 'data'))
  monkeypatch.setenv('PYTHONPATH', str(ROOT))
  monkeypatch.setenv('JAX_DISABLE_MOST_OPTIMIZATIONS', 'true')
  blocks = re.findall(r'```(\w+)\n(.*?)```', GUIDE.read_text(), re.DOTALL)
  done = 0
  names = {}
  for language, block in blocks[1:]:  # After the installation.
    if language == 'python':
      capsys.readouterr()
      exec(compile(block, GUIDE.name, 'exec'), names)
      shapes = re.findall(r'# (\(\d.*)', block)
      assert capsys.readouterr().out.splitlines() == shapes
      continue
    for line in block.replace('\\\n', '').splitlines():
      command = shlex.split(line, comments=True)
      if command[:1] == ['mmjax']:
        assert main.main(command[1:]) == 0
      elif command[:1] == ['python'] and '--help' not in command:
        subprocess.run([sys.executable, *command[1:], *SHORTER], check=True)
      else:
        continue
      done += 1
  assert done >= 6
  for name in ('shapes.png', 'found.png', 'runs/first/results.json'):
    assert (tmp_path / name).exists()
