"""What published models are measured by, on a data set of three images."""

import csv
import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from mmjax import pretrained
from mmjax.cli import main
from mmjax.inference import evaluating, measures
from mmjax.pretrained import checkpoint

GOLDEN = Path(__file__).parents[1] / 'pretrained/golden'
# Names that all of the small tokenizers know.
COLORS = {'red': (255, 0, 0), 'circle': (0, 255, 0), 'small': (0, 0, 255)}


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  """The data set 'colors': an image, a caption and a question of each name."""
  folder = tmp_path_factory.mktemp('colors')
  with (folder / 'rows.csv').open('w') as file:
    writer = csv.writer(file)
    writer.writerow(['image', 'caption', 'color', 'question', 'answer'])
    for name, color in COLORS.items():
      PIL.Image.new('RGB', (8, 8), color).save(folder / f'{name}.png')
      question = ('what is it', name)
      writer.writerow([f'{name}.png', f'a {name}', name, *question])
  flags = ['--format=csv', f'--input={folder}/rows.csv', '--name=colors']
  where = f'--data_dir={folder}'
  splits = '--splits=test:1'
  assert main.main(['data', 'import', *flags, splits, where]) == 0
  return folder


def evaluate(name, data_dir, *flags):
  where = ['--data=colors', f'--data_dir={data_dir}', '--batch_size=2']
  output = data_dir / f'results_{name}'
  command = [f'{GOLDEN / name}', *where, *flags, f'--output={output}']
  assert main.main(['evaluate', *command]) == 0
  return json.loads((output / 'evaluation.json').read_text())['results']


def test_an_evaluation_is_not_a_run(data_dir, capsys):
  flags = ('--target=metadata/color', '--num_examples=2')
  evaluate('clip', data_dir, *flags)
  assert capsys.readouterr().err.startswith(f'{GOLDEN / "clip"}\n')
  assert main.main(['report', str(data_dir / 'results_clip')]) == 2
  assert "this is not a run's folder" in capsys.readouterr().err


@pytest.mark.parametrize('name', ['clip', 'siglip2', 'blip_matches'])
def test_an_encoder_of_both_retrieves_and_classifies(name, data_dir, capsys):
  target, template = '--target=metadata/color', '--template=a {}'
  values = evaluate(name, data_dir, target, template)
  notes = capsys.readouterr().out
  assert "note: 3 of the 3 records of colors, 'test'\n" in notes
  assert 'note: 3 classes, those of the records of this split alone' in notes
  model = pretrained.load(GOLDEN / name)
  names = sorted(COLORS)
  images = model.encode_image([str(data_dir / f'{n}.png') for n in names])
  texts = model.encode_text([f'a {n}' for n in names])
  cosines = np.asarray(images @ texts.T)
  right = np.argmax(cosines, axis=1) == np.arange(3)
  assert values['zero_shot/accuracy'] == pytest.approx(right.mean())
  assert values['zero_shot/majority_accuracy'] == pytest.approx(1 / 3)
  assert values['retrieval/image_to_text_r1'] == pytest.approx(right.mean())
  assert values['retrieval/chance_r1'] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
  ('name', 'number'),
  [('blip_captions', 'captions/exact'), ('blip_answers', 'vqa/accuracy')],
)
def test_a_writer_writes(name, number, data_dir):
  values = evaluate(name, data_dir, '--max_new_tokens=3')
  assert np.isfinite(values[number])


@pytest.mark.parametrize(
  ('command', 'message'),
  [
    ('clip --task=zero_shto', "did you mean 'zero_shot'?"),
    ('clip --task=zero_shot', 'has no category; choose what to predict'),
    ('clip --target=metadata/colour', "did you mean 'color'?"),
    (
      'clip --target=color',
      'the metadata has color, file (written metadata/NAME); did',
    ),
    ('clip --gallery_by=colour', 'which has color, file; did you mean'),
    (
      'clip --target=metadata/color --classes=x,y',
      "is one of the 2 classes 'x'",
    ),
    ('clip --target=metadata/color --classes=', '--classes= names no class'),
    ('clip --target=metadata/color --template=a', "--template='a' has no {}"),
    ('vit --target=metadata/color', 'of which none is one of the'),
    ('gpt2', 'has no task that mmjax measures; CLIP,'),
    ('clip --num_examples=-1', 'use 0 or more'),
  ],
)
def test_refused(command, message, data_dir, monkeypatch, capsys):
  name, *flags = command.split()
  if '--task=zero_shto' in flags:  # Before weights are read.
    monkeypatch.setattr(checkpoint.keys, 'load', None)
  where = ['--data=colors', f'--data_dir={data_dir}']
  try:
    code = main.main(['evaluate', str(GOLDEN / name), *where, *flags])
  except SystemExit as end:  # argparse ends commands so.
    code = end.code
  assert code == 2
  assert message in capsys.readouterr().err


def test_a_task_without_rows_has_those_of_its_metrics(monkeypatch):
  class Evaluator:
    def run(self, params):
      yield 'own/x', 2.0

    def render(self):
      return None

  measure = measures.Measure({}, {'own': Evaluator()}, rows=())
  make = {'own': lambda: measure}
  monkeypatch.setattr(evaluating, 'find', lambda *_: make)
  options = evaluating.Options(data='colors', split='val')
  results = evaluating.evaluate(None, [{}], options, None)
  table = list(evaluating.iterate_table(results, 'val'))
  assert table == [('val', 'own/x', 2.0, None, None)]


def test_an_experiment_of_a_published_model_is_refused(data_dir, capsys):
  flags = ['--data=colors', f'--data_dir={data_dir}', '--experiment=own.py']
  assert main.main(['evaluate', str(GOLDEN / 'clip'), *flags]) == 2
  assert "experiment='own.py' is for runs, and" in capsys.readouterr().err
