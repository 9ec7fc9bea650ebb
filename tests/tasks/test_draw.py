"""What drawing refuses, and how drawings are judged."""

import functools
import random
import types

import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import evaluators, tasks
from mmjax.cli import predict_output
from mmjax.data import preprocess, shapes_detector, shapes_drawing, tokenizers
from mmjax.data import shapes_scenes as scenes
from mmjax.errors import ConfigError


@pytest.mark.parametrize(
  'settings, message',
  [
    ({'schedule': 'cosine'}, "prediction='velocity' does not go with"),
    ({'time_sampler': 'normal'}, "time_sampler 'normal' is unknown"),
    ({'sampler': 'rk4'}, "sampler 'rk4' is unknown"),
    ({'spacing': 'even'}, "spacing 'even' is unknown"),
    ({'steps': 0}, 'steps=0 is not legal'),
    ({'guidance': -1.0}, 'guidance=-1.0 is not legal'),
    ({'guidance': float('nan')}, 'guidance=nan is not legal'),
    ({'drop_condition': 0.0}, 'guidance=2.0 needs a model that was trained w'),
  ],
)
def test_settings_that_are_not_legal_are_refused(settings, message):
  with pytest.raises(ConfigError, match=message):
    tasks.Draw(**settings).check()


def make_preprocessor():
  built = preprocess.build(
    {
      'image': {'kind': 'image', 'size': 48},
      'text': {'kind': 'text', 'field': 'captions', 'length': 60},
    }
  )
  return preprocess.Preprocessor(built, tokenizers.make_byte_tokenizer())


SCENES = tuple(
  (scenes.Object('large', color, 'square', 'center'),)
  for color in ('red', 'blue', 'gray')
)


def make_records():
  """The images of the scenes, and records with them and their captions."""
  images = [shapes_drawing.draw(s, random.Random(0)) for s in SCENES]
  return images, [
    {
      'id': str(i),
      'fields': {
        'image': shapes_drawing.encode_png(image),
        'captions': [f'a large {scene[0].color} square in the center'],
      },
      'metadata': {},
    }
    for i, (image, scene) in enumerate(zip(images, SCENES, strict=True))
  ]


def test_drawings_are_right_where_the_reader_says_so():
  images, records = make_records()
  values = jnp.asarray(np.stack(images), jnp.float32) / 127.5 - 1

  def draw(params, batch, shift):
    # The seed is the record's index, and -1 where there is none.
    return values[(batch['seed'] + shift * (batch['seed'] > 0)) % 3]

  evaluator = evaluators.Drawings(
    functools.partial(draw, shift=0),
    functools.partial(draw, shift=1),
    records,
    make_preprocessor(),
    feature='image',
    condition='text',
    batch_size=2,
    holds=shapes_detector.holds,
  )
  assert evaluator.render() is None
  found = dict(evaluator.run({}))
  # Shifted, the first is itself, the second the third, the third the first.
  assert found.pop('drawings/unconditional') == pytest.approx(1 / 3)
  assert found == {
    'drawings/mean_error': 0.0,
    'drawings/right': 1.0,
    'drawings/true': 1.0,
  }
  assert evaluator.render().width > 48


def test_a_judge_compares_drawings_with_true_images():
  images, records = make_records()
  records = [records[i % 3] for i in range(5)]
  values = jnp.asarray(np.stack(images), jnp.float32) / 127.5 - 1
  means = np.asarray(values).mean(axis=(1, 2))
  # Of the texts, the last two are swapped.
  vectors = {
    record['fields']['captions'][0]: 3 * means[i]
    for record, i in zip(records, (0, 2, 1), strict=False)
  }

  def make(number):
    return evaluators.Drawings(
      lambda params, batch: params + values[batch['seed'] % 3],
      None,
      records,
      make_preprocessor(),
      feature='image',
      condition='text',
      batch_size=2,
      num_examples=number,
      judge=evaluators.Judge(
        lambda scale, batch: scale * batch['image'].mean(axis=(1, 2)),
        jnp.float32(10),
        lambda texts: np.stack([vectors[text] for text in texts]),
      ),
    )

  names = ('precision', 'recall', 'frechet', 'kernel')
  find = lambda shift: [
    dict(make(5).run(jnp.float32(shift)))[f'drawings/{name}'] for name in names
  ]
  assert find(0)[:2] == [1.0, 1.0] and abs(find(0)[2]) < 1e-3
  values_of = dict(make(5).run(jnp.float32(0)))
  # Of the five records, the first and the fourth have the first text.
  assert values_of['drawings/r1'] == values_of['drawings/true_r1'] == 2 / 5
  assert values_of['drawings/chance_r1'] == pytest.approx(9 / 25)
  unit = means / np.linalg.norm(means, axis=1, keepdims=True)
  cosines = [1, unit[1] @ unit[2], unit[1] @ unit[2], 1, unit[1] @ unit[2]]
  np.testing.assert_allclose(
    values_of['drawings/clip_score'], 100 * np.mean(cosines), rtol=1e-3
  )
  # Half the range darker, so 10 of each mean color's three values.
  precision, recall, frechet, kernel = find(-1)
  assert precision == recall == 0 and kernel > 100
  np.testing.assert_allclose(frechet, 300, rtol=0.1)
  with pytest.raises(ConfigError, match='more than 3 drawings, not 3'):
    make(3)


def make_run(**settings):
  preprocessor = make_preprocessor()
  run = types.SimpleNamespace(
    tasks={'draw': tasks.Draw(**settings)},
    preprocessor=preprocessor,
    tokenizer=preprocessor.tokenizer,
    prepare=preprocessor.prepare,
    asked=[],
  )

  def predict(make, batch, **chosen):
    run.asked.append((chosen, np.asarray(batch['seed'])))
    return jnp.zeros((len(batch['seed']), 48, 48, 3))

  run.predict = predict
  return run


def test_a_run_draws_with_the_seeds_and_settings_asked_for():
  run = make_run(steps=7)
  images = tasks.Draw.methods['draw'](run, ['a', 'b'], seed=5, guidance=4)
  assert images.shape == (2, 48, 48, 3) and images.dtype == np.uint8
  ((chosen, seeds),) = run.asked
  assert chosen['guidance'] == 4.0 and chosen['steps'] == 7
  np.testing.assert_array_equal(seeds, [5, 6])
  with pytest.raises(ConfigError, match='tokens, but the model reads 60'):
    tasks.Draw.methods['draw'](run, 'x' * 70)
  for seed in (2**31, 2**32, -(10**30)):
    with pytest.raises(ConfigError, match=f'seed={seed} is not legal'):
      tasks.Draw.methods['draw'](run, 'a', seed=seed)
  with pytest.raises(ConfigError, match='that was trained without a text'):
    tasks.Draw.methods['draw'](
      make_run(drop_condition=0.0, guidance=1.0), 'a', guidance=2.0
    )


def test_the_flags_of_predict_reach_the_task():
  flag = tasks.Draw.predict_use
  args = types.SimpleNamespace(seed=3, guidance=None, copies=2, beam_size=None)
  chosen = predict_output.list_settings(args, flag)
  assert chosen == {'seed': 3, 'copies': 2}
  run = make_run()
  cells = flag.draw(run, {}, ['a', 'b'], **chosen)
  assert [lines for _, lines in cells] == [['a'], ['a'], ['b'], ['b']]
  np.testing.assert_array_equal(run.asked[0][1], [3, 4, 5, 6])
  args.beam_size = 4
  with pytest.raises(ConfigError, match='=4: the task writes no text; le'):
    predict_output.list_settings(args, flag)
  args.beam_size, args.copies = None, 0
  with pytest.raises(ConfigError, match='--copies=0 is not legal'):
    predict_output.list_settings(args, flag)
  other = tasks.Captioning.predict_use
  with pytest.raises(ConfigError, match='--seed=3: the task has no such'):
    predict_output.list_settings(args, other)


def test_a_file_that_is_read_is_not_written(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  use, inputs = tasks.Draw.predict_use, [{'image': str(tmp_path / 'a.png')}]
  predict_output.check_use(use, 'runs/x', 'b.png', inputs, ['a'])
  with pytest.raises(ConfigError, match=r'a\.png is also the image'):
    predict_output.check_use(use, 'runs/x', 'a.png', inputs, ['a'])
  with pytest.raises(ConfigError, match=r'or of a sound \.wav'):
    predict_output.check_path('a.mp3')
