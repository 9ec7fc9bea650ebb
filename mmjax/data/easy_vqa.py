"""The `easy_vqa` data set, from the PyPI package of that name.

Images of one shape, 64x64 pixels, with questions about its colour and form
(Zhou, https://github.com/vzhou842/easy-VQA). The test split is the package's; a
tenth of its training images, chosen by a hash, is the validation split.
"""

import collections
import pathlib
from collections.abc import Iterable, Iterator

import tensorflow_datasets as tfds

from mmjax.data import builders, records, splitting
from mmjax.errors import ConfigError

_SPLITS = {'train': 0.9, 'validation': 0.1}


class EasyVqa(builders.RecordBuilder):
  """TFDS builder of `easy_vqa`: one record per image, with all its questions.

  The question types are color, shape, existence ('is there a red shape?') and
  absence ('is there not a red shape?').
  """

  name = 'easy_vqa'
  VERSION = tfds.core.Version('2.0.0')
  SUMMARY = 'easy-VQA: one shape an image, questions about colour and form.'
  VOCAB_SIZE = 512

  def read_splits(self) -> dict[str, Iterable[records.Record]]:
    package = _import_package()
    train = _read(
      'train', package.get_train_questions(), package.get_train_image_paths()
    )
    test = _read(
      'test', package.get_test_questions(), package.get_test_image_paths()
    )
    splits = {split: [] for split in _SPLITS}
    for record in train:
      splits[splitting.assign(record['id'], _SPLITS)].append(record)
    return {**splits, 'test': test}


def _import_package():
  try:
    import easy_vqa
  except ImportError as error:
    raise ConfigError(
      'easy_vqa is built from the package easy-vqa, which is not installed; '
      "run: pip install 'mmjax[easy_vqa]'"
    ) from error
  return easy_vqa


def _read(
  prefix: str,
  questions: tuple[list[str], list[str], list[int]],
  paths: dict[int, str],
) -> Iterator[records.Record]:
  entries = collections.defaultdict(list)
  for question, answer, image in zip(*questions, strict=True):
    entries[image].append(
      {
        'question': question,
        'answers': [answer],
        'type': _classify(question, answer),
      }
    )
  for image in sorted(paths):
    yield {
      'id': f'{prefix}-{image}',
      'fields': {
        'image': pathlib.Path(paths[image]).read_bytes(),
        'questions': entries[image],
      },
      'metadata': {},
    }


def _classify(question: str, answer: str) -> str:
  if answer in ('yes', 'no'):
    negated = not {'no', 'not'}.isdisjoint(question.split())
    return 'absence' if negated else 'existence'
  # 'what is the blue shape?' names a colour, but asks for the shape.
  return 'shape' if answer in ('circle', 'rectangle', 'triangle') else 'color'
