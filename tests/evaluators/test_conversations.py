"""What the evaluator of conversations computes of its rows."""

import numpy as np

from mmjax import evaluators
from mmjax.data import audio, preprocess, sources, tokenizers

LENGTH = 150


def make_record(i, question, sounds):
  turns = [
    {'role': 'user', 'content': [*[{'field': 'sounds'}] * sounds, question]},
    {'role': 'assistant', 'content': ['ab']},
  ]
  fields = {'turns': turns}
  if sounds:
    fields['sounds'] = [audio.encode_wave(np.ones(8), 100)] * sounds
  return {'id': str(i), 'fields': fields, 'metadata': {}}


def test_columns_and_places_that_no_row_has_are_left_out():
  turns = {'kind': 'turns', 'length': LENGTH, 'sound': 'sounds'}
  turns['sound_placeholder'] = '<unk>'
  sounds = {'kind': 'sounds', 'rate': 100, 'seconds': 0.1, 'number': 12}
  sounds['step'] = 5
  prepare = preprocess.Preprocessor(
    preprocess.build({'turns': turns, 'sounds': sounds}),
    tokenizers.make_byte_tokenizer(),
  )
  seen = []
  places = lambda batch: [
    batch[key].shape[1] for key in ('sounds', 'sounds_mask')
  ]

  def losses(params, batch):
    seen.append(('losses', batch['turns_loss_mask'].shape, *places(batch)))
    count = batch['turns_loss_mask'].sum(axis=1)
    return params * count[:, None] + np.zeros((1, 3))

  def generate(params, batch):
    seen.append(('generate', batch['turns'].shape, *places(batch)))
    return np.zeros((len(batch['turns']), 2), np.int32) + params

  records = [
    make_record(i, 'a' * number, sounds)
    for i, (number, sounds) in enumerate(((3, 0), (9, 1), (100, 3), (4, 0)))
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
    (name, (2, number), places, places)
    for name in ('losses', 'generate')
    for number, places in ((64, 1), (128, 4))
  ]
  assert found['turns/loss'] == 1.0 and found['turns/too_long'] == 0
