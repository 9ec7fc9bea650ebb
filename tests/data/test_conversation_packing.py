"""Rows of several conversations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import decoders, models, objectives
from mmjax.data import (
  batches,
  conversation_packing,
  preprocess,
  sources,
  tokenizers,
)
from mmjax.data.features import Category, Turns
from mmjax.errors import ConfigError

LENGTH = 47
TEXTS = ['hi', 'a red circle', 'what', 'xy', 'is it big?', 'no', 'é']


def make_source(texts=TEXTS):
  return sources.ListSource(
    {
      'id': str(i),
      'fields': {
        't': [
          {'role': 'user', 'content': [text]},
          {'role': 'assistant', 'content': [text[::-1]]},
        ]
      },
      'metadata': {},
    }
    for i, text in enumerate(texts)
  )


def make_preprocessor(**more):
  settings = {'name': 't', 'length': LENGTH, 'packed': True}
  return preprocess.Preprocessor(
    {'t': Turns(**settings), **more}, tokenizers.make_byte_tokenizer()
  )


def test_rows_are_filled_by_best_fit():
  """By hand; and every text has a place once, whatever the seed."""
  fill = conversation_packing.fill_rows
  rows = [{(6, 4): 1}, {(5, 3, 2): 1}]
  lengths = [6, 5, 4, 3, 2]
  sizes = [tuple(lengths[i] for i in row) for row in fill(lengths, 10, 0)]
  assert sizes == [next(iter(row)) for row in rows]
  media = [(1, 0), (0, 2), (1, 1), (0, 0), (0, 1)]
  assert fill(lengths, 10, 0, media, (1, 2)) == [(0, 3), (1,), (2, 4)]
  random = np.random.default_rng(2).integers(1, 30, 200).tolist()
  seen = set()
  for seed in (0, 0, 1):
    rows = fill(random, 30, seed)
    assert sorted(i for row in rows for i in row) == list(range(200))
    assert all(sum(random[i] for i in row) <= 30 for row in rows)
    assert len(rows) <= sum(random) / 30 * 1.1 + 1
    seen.add(str(rows))
  assert len(seen) == 2


def test_batches_of_rows_resume_exactly_and_have_every_conversation():
  source, prepare = conversation_packing.pack(
    make_source(), make_preprocessor(), 3
  )
  assert len(source) < len(TEXTS)
  make = lambda: batches.TrainBatches(source, prepare, batch_size=2, seed=5)
  with make().iterate(0) as first, make().iterate(2) as later:
    whole = [next(first) for _ in range(4)]
    for want, got in zip(whole[2:], later, strict=False):
      for key, array in want.items():
        np.testing.assert_array_equal(got[key], array, key)
  tokenizer = prepare.preprocessor.tokenizer
  seen = set()
  for batch in whole:
    for ids, segments in zip(batch['t'], batch['t_segments'], strict=True):
      for number in range(1, segments.max() + 1):
        seen.add(tokenizer.decode(ids[segments == number]))
  assert len(seen) == len(TEXTS)


def make_loss(**settings):
  """The function (params, batch) -> (loss, count), and parameters."""
  decoder = decoders.TextDecoder(
    vocab_size=260,
    width=8,
    depth=2,
    num_heads=2,
    mlp_dim=11,
    max_length=LENGTH,
    cross_attention=False,
    **settings,
  )
  model = models.LanguageModel(decoder, target_feature='t')
  objective = objectives.AssistantGeneration(target='t')

  def loss(params, batch):
    outputs = model.apply({'params': params}, batch, train=True)
    value, _ = objective(
      outputs, batch, apply=model.apply, rng=jax.random.key(0)
    )
    return value, objective.count(batch)

  return jax.jit(jax.value_and_grad(loss, has_aux=True)), model


@pytest.mark.parametrize(
  'settings',
  [
    {'positions': 'learned', 'block': {'attention_bias': ('query', 'value')}},
    {'positions': 'none', 'block': {'rope_theta': 1e4, 'num_kv_heads': 1}},
  ],
)
def test_packed_equals_unpacked(settings, draw):
  """Loss, number of tokens and every gradient; and not without segments."""
  preprocessor = make_preprocessor()
  source, prepare = conversation_packing.pack(make_source(), preprocessor, 0)
  stack = lambda examples: {
    key: jnp.stack([example[key] for example in examples])
    for key in examples[0]
  }
  alone = stack([preprocessor(record) for record in make_source()])
  packed = stack([prepare(row) for row in source])
  assert len(packed['t']) < len(alone['t'])
  measure, model = make_loss(**settings)
  params = draw(model, alone, train=False)['params']
  (want, number), gradient = measure(params, alone)
  (got, same), other = measure(params, packed)
  assert number == same > 0
  # Sums of the same terms in another order, in float32.
  np.testing.assert_allclose(got, want, rtol=1e-5)
  for path, leaf in jax.tree.leaves_with_path(gradient):
    scale = np.abs(leaf).max()
    np.testing.assert_allclose(
      dict(jax.tree.leaves_with_path(other))[path],
      leaf,
      rtol=1e-5,
      atol=1e-5 * scale,
      err_msg=jax.tree_util.keystr(path),
    )
  mixed = {**packed, 't_segments': jnp.ones_like(packed['t_segments'])}
  (wrong, _), _ = measure(params, mixed)
  assert abs(wrong - want) > 1e-4


def test_other_features_are_not_packed():
  with pytest.raises(ConfigError, match="there is also 'kind'"):
    conversation_packing.pack(
      make_source(),
      make_preprocessor(kind=Category(name='kind', classes=('a', 'b'))),
      0,
    )


def test_a_conversation_without_an_answer_stops_training_by_name():
  rows = list(make_source())
  del rows[3]['fields']['t'][1]
  source, prepare = conversation_packing.pack(
    sources.ListSource(rows), make_preprocessor(), 0
  )
  stream = batches.TrainBatches(source, prepare, batch_size=len(source), seed=0)
  words = "record '[0-9 and]*3[0-9 and]*' .* nothing that the assistant says"
  with stream.iterate(0) as ahead, pytest.raises(ConfigError, match=words):
    next(ahead)
