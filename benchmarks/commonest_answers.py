"""How often the commonest answer is right: conversations without their images.

  python -m benchmarks.commonest_answers --data=emoji_chat

Answers each question of the conversations with what training answers most often
to the same words, and questions that training doesn't have with its commonest
answer. No model that does not see the images can expect to do better.
"""

import collections
import itertools

from absl import app, flags

from mmjax.data import records, sources

_DATA = flags.DEFINE_string('data', None, 'prepared data set', required=True)
_TURNS = flags.DEFINE_string('turns', 'turns', 'field of the conversations')
_TRAIN = flags.DEFINE_string('train_split', 'train', 'where to count answers')
_SPLITS = flags.DEFINE_list('splits', None, 'splits to answer', required=True)


def main(argv) -> None:
  """Prints a line for each split."""
  del argv
  by_question = collections.defaultdict(collections.Counter)
  overall = collections.Counter()
  for question, answer in _iterate(_TRAIN.value):
    by_question[question][answer] += 1
    overall[answer] += 1
  for split in _SPLITS.value:
    right = [
      by_question.get(question, overall).most_common(1)[0][0] == answer
      for question, answer in _iterate(split)
    ]
    print(f'{split}: {sum(right) / len(right):.3f} of {len(right):,}')


def _iterate(split: str):
  """Yields the words of each question and of its answer."""
  source = sources.open_source(
    _DATA.value, split, data_dir=records.get_default_data_dir()
  )
  for i in range(len(source)):
    turns = source.read_small(i)['fields'][_TURNS.value]
    for asked, answered in itertools.pairwise(turns):
      if answered['role'] == 'assistant':
        yield _get_words(asked), _get_words(answered)


def _get_words(turn) -> str:
  return ' '.join(item for item in turn['content'] if isinstance(item, str))


if __name__ == '__main__':
  app.run(main)
