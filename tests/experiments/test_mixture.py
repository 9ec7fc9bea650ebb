"""A run on a mixture: metrics, results and report by source; its use after."""

import json

import numpy as np
import pytest

from experiments import multimodal
from mmjax.cli import report
from mmjax.config import overrides, settings
from mmjax.data import extra_fields, importing
from mmjax.errors import ConfigError
from mmjax.runs import rebuild
from mmjax.training import runner

SPLITS = ('x/style', 'y/age')
TEXT = {'name': 'transformer', 'width': 8, 'depth': 1, 'num_heads': 2}


@pytest.fixture(scope='module')
def config(tmp_path_factory):
  """Of notes with a style and of notes with an age."""
  folder = tmp_path_factory.mktemp('notes')
  splits = ['train'] * 8 + ['validation'] * 3 + ['test'] * 3
  rows = [
    {'caption': f'note {i}', 'style': 'ab'[i % 2], 'years': i, 'split': split}
    for i, split in enumerate(splits)
  ]
  for name, field in (
    ('styles', 'style=category:style'),
    ('ages', 'age=number:years'),
  ):
    path = folder / f'{name}.jsonl'
    path.write_text('\n'.join(map(json.dumps, rows)))
    importing.import_data(
      'jsonl',
      str(path),
      importing.Settings(name, fields=extra_fields.parse(field)),
      data_dir=folder / 'data',
      progress=False,
    )
  return settings.complete(
    {
      'experiment': 'multimodal',
      'data': {
        'data_dir': str(folder / 'data'),
        'mixture': {
          'x': {'name': 'styles', 'weight': 3},
          'y': {'name': 'ages'},
        },
        'tokenizer': 'bytes',
        'text_length': 9,
        'features': {'style': {'kind': 'category'}, 'age': {'kind': 'number'}},
        'num_threads': 0,
      },
      'model': {
        'name': 'multimodal',
        'encoders': {'text': {**TEXT, 'mlp_dim': 8}},
      },
      'tasks': {'classify': {'target': 'style'}, 'regress': {'target': 'age'}},
      'train': {
        'steps': 2,
        'batch_size': 8,
        'log_every': 1,
        'tensorboard': False,
        'keep_best': 'val/y/age/absolute_error',
        'best_mode': 'min',
      },
      'eval': {'batch_size': 3},
    }
  )


def test_a_run_on_two_sources(config, tmp_path):
  results = runner.run(config, multimodal.build, tmp_path)
  names = {name.rpartition('/')[0] for name in results if '/' in name}
  # No age of x, no style of y.
  assert names >= {f'{s}/{n}' for s in ('val', 'test') for n in SPLITS}
  assert all(name.split('/', 1)[1] in SPLITS for name in names)
  rows = list(
    report.table_rows(results, report._rows_of_tasks(tmp_path, results))
  )
  assert {row[:2] for row in rows} == {
    ('x', 'style right'),
    ('y', 'age absolute error (lower is better)'),
  }
  text = (tmp_path / 'metrics.jsonl').read_text()
  lines = [json.loads(line) for line in text.splitlines()]
  assert [line['step'] for line in lines] == [1, 2]
  for line in lines:
    assert (line['examples/x'], line['examples/y']) == (6, 2)
    assert (line['count/classify/x'], line['count/regress/y']) == (6, 2)
    # Each task has items in one source, so its loss is that source's.
    assert line['loss/classify/x'] == pytest.approx(line['loss/classify'])
    assert line['loss/regress/y'] == pytest.approx(line['loss/regress'])
    assert not {'loss/classify/y', 'loss/regress/x'} & line.keys()
    speeds = [line[f'examples_per_second/{name}'] for name in 'xy']
    np.testing.assert_allclose(speeds[0], 3 * speeds[1])
    np.testing.assert_allclose(sum(speeds), line['examples_per_second'])
  run = rebuild.load(tmp_path)
  assert run.classify(text='note 3')[0] in ('a', 'b')

  changed = config.copy_and_resolve_references()
  overrides.override(changed, [('data.mixture.x.weight', '2')])
  with pytest.raises(ConfigError, match=r'data\.mixture\.x\.weight: 3 -> 2'):
    runner.run(changed, multimodal.build, tmp_path)
