"""Rewards of what a model writes."""

import jax.numpy as jnp
import pytest

from mmjax import evaluators
from mmjax.data import preprocess, sources, tokenizers
from mmjax.errors import ConfigError


def make(records, find_reward):
  """An evaluator of a model that writes the first letter of the question."""
  tokenizer = tokenizers.make_byte_tokenizer()
  built = preprocess.build({'x': {'kind': 'prompt', 'length': 25}})
  start = len(tokenizer.encode_words('user: '))

  def generate(params, batch):
    first = batch['x'][:, start]
    return jnp.stack([first, first * 0 + tokenizer.eos_id, first], axis=1)

  return evaluators.Rewards(
    generate,
    sources.ListSource(records, kinds={'x': 'turns'}),
    preprocess.Preprocessor(built, tokenizer),
    target='x',
    find_reward=find_reward,
    batch_size=2,
    name='x',
  )


def make_record(name, text):
  turns = [{'role': 'user', 'content': [text]}] if text else []
  return {'id': name, 'fields': {'x': turns}, 'metadata': {}}


def test_each_answer_is_rewarded_with_its_record():
  seen = []

  def find_reward(answer, record):
    seen.append((answer, record['id']))
    return float(answer == record['id'])

  texts = {'a': 'abc', 'b': 'xyz', 'none': '', 'long': 'more than fits here'}
  records = [make_record(name, text) for name, text in texts.items()]
  evaluator = make(records, find_reward)
  assert evaluator.render() is None
  results = dict(evaluator.run({}))
  assert seen == [('a', 'a'), ('x', 'b'), ('', 'long')]
  assert results == {'x/reward': 1 / 3, 'x/too_long': 1 / 3}
  assert evaluator.render().size[0] > 0
  with pytest.raises(ConfigError, match='none of 1 records has a prompt'):
    dict(make(records[2:3], find_reward).run({}))
