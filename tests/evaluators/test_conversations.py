"""What the evaluator of conversations computes of its rows."""

import numpy as np

from mmjax import evaluators
from mmjax.data import preprocess, sources, tokenizers

LENGTH = 150


def make_record(i, question):
  turns = [
    {'role': 'user', 'content': [question]},
    {'role': 'assistant', 'content': ['ab']},
  ]
  return {'id': str(i), 'fields': {'turns': turns}, 'metadata': {}}


def test_columns_without_a_token_are_left_out():
  feature = {'kind': 'turns', 'length': LENGTH}
  prepare = preprocess.Preprocessor(
    preprocess.build({'turns': feature}), tokenizers.make_byte_tokenizer()
  )
  seen = []

  def losses(params, batch):
    seen.append(('losses', batch['turns_loss_mask'].shape))
    count = batch['turns_loss_mask'].sum(axis=1)
    return params * count[:, None] + np.zeros((1, 3))

  def generate(params, batch):
    seen.append(('generate', batch['turns'].shape))
    return np.zeros((len(batch['turns']), 2), np.int32) + params

  records = [
    make_record(i, 'a' * number) for i, number in enumerate((3, 9, 100, 4))
  ]
  evaluator = evaluators.Conversations(
    losses,
    generate,
    sources.ListSource(records),
    prepare,
    target='turns',
    length=LENGTH,
    batch_size=2,
    name='turns',
  )
  found = dict(evaluator.run(np.float32(1)))
  assert seen == [
    *(('losses', (2, number)) for number in (64, 128)),
    *(('generate', (2, number)) for number in (64, 128)),
  ]
  assert found['turns/loss'] == 1.0 and found['turns/too_long'] == 0
