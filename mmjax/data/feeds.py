"""Everything that a config's `data` section says, opened."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmjax.data import (
  batches,
  checks,
  preprocess,
  records,
  sources,
  synthetic,
  tokenizers,
)
from mmjax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Feed:
  """An experiment's data.

  Attributes:
    preprocess: record to arrays.
    train: training batches.
    splits: 'val' (unless there is none), 'test', and each of `extra_splits` by
      its name, to evaluate on.
    init_batch: two training examples, for shapes.
    files: what a run's folder needs to preprocess again, by file name.
    notes: what the user should know of the data.
  """

  preprocess: preprocess.Preprocessor
  train: batches.TrainBatches
  splits: Mapping[str, sources.Source]
  init_batch: batches.Batch
  files: Mapping[str, Callable[[pathlib.Path], None]]
  notes: tuple[str, ...] = ()


def open_feed(
  data: Mapping[str, Any],
  *,
  batch_size: int,
  seed: int,
  text: bool = False,
  question: bool = False,
  answer: bool = False,
  label: bool = False,
  rows: Sequence[int] | None = None,
  needs: checks.Needs | None = None,
) -> Feed:
  """Opens the data set, its tokenizer and the batches.

  Args:
    data: the `data` section of a config.
    batch_size: examples in a global training batch.
    seed: of order and augmentation.
    text: whether batches have captions.
    question: whether they have questions.
    answer: whether they have answers as text.
    label: whether they have answers as indices in the answer vocabulary, which
      is that of the training split.
    rows: which examples of every training batch this host reads; None for all.
    needs: by objective, what a record must have to take part in it; data that
      an objective can't learn from are refused. None checks nothing.

  Raises:
    ConfigError: if the data set, or the tokenizer, isn't there.
    ConfigError: if a setting is impossible, or the data are refused.
  """

  def open_split(split: str, where: Mapping[str, Any] | None):
    if synthetic.is_synthetic(data['name']):
      return synthetic.open_split(data, split, where)
    return sources.open_source(
      data['name'],
      split,
      data_dir=data['data_dir'],
      where=where,
      fields=data['fields'],
    )

  train = open_split(data['train_split'], data['where'])
  splits = {
    'test': open_split(data['test_split'], data['test_where']),
    **{name: open_split(name, None) for name in data['extra_splits']},
  }
  if data['eval_split']:
    splits['val'] = open_split(data['eval_split'], data['eval_where'])
  tokenizer = _tokenizer(data, train)
  preprocessor = preprocess.Preprocessor(
    tokenizer=tokenizer,
    image_size=0 if data['blind'] else data['image_size'],
    resize=data['resize'],
    mean=data['mean'],
    std=data['std'],
    augment=data['augment'] or (),
    text_length=data['text_length'] if text else 0,
    question_length=data['question_length'] if question else 0,
    answer_length=data['answer_length'] if answer else 0,
    answers=sources.answer_vocabulary(train) if label else (),
    num_questions=data['num_questions'],
    text_fields=data['text_fields'] or {},
    text_fields_in_evaluation=data['text_fields_in_evaluation'],
  )
  notes = ()
  if needs and not synthetic.is_synthetic(data['name']):
    others = {_setting(data, name): split for name, split in splits.items()}
    named = f'data.train_split={data["train_split"]!r}', train
    notes = checks.check(named, others, preprocessor, needs)
  first = sources.Subset(train, range(min(2, len(train))))
  with batches.eval_batches(
    first, preprocessor, 2, on_error=data['on_error']
  ) as ahead:
    init_batch = next(ahead)
  for key in ('mask', 'replaced'):
    init_batch.pop(key, None)
  return Feed(
    preprocess=preprocessor,
    train=batches.TrainBatches(
      train,
      preprocessor,
      batch_size=batch_size,
      seed=seed,
      rows=rows,
      num_threads=data['num_threads'],
      num_workers=data['num_workers'],
      prefetch=data['prefetch'],
      on_error=data['on_error'],
    ),
    splits=splits,
    init_batch=init_batch,
    files={
      'tokenizer.json': tokenizer.save,
      'preprocess.json': preprocessor.save,
    },
    notes=notes,
  )


def _setting(data: Mapping[str, Any], name: str) -> str:
  """What names a split in the config."""
  field = {'val': 'eval_split', 'test': 'test_split'}.get(name)
  if field is None:
    return f'data.extra_splits: {name!r}'
  return f'data.{field}={data[field]!r}'


def _tokenizer(
  data: Mapping[str, Any], source: sources.Source
) -> tokenizers.Tokenizer:
  """The tokenizer that a config names: 'bytes', a file, or the data set's."""
  setting = data['tokenizer']
  made = 'bytes' if synthetic.is_synthetic(data['name']) else ''
  given = {'bos': data['bos'], 'lower_case': data['lower_case']}
  for name, value in given.items():
    if value not in (None, False) and (setting or made) == 'bytes':
      raise ConfigError(
        f'data.{name}={value!r} needs a tokenizer of a file; leave it out, or '
        'set data.tokenizer to a tokenizer.json'
      )
  if setting == 'bytes':
    return tokenizers.byte_tokenizer()
  if setting:
    return tokenizers.Tokenizer.load(setting, **given)
  if synthetic.is_synthetic(data['name']):
    return synthetic.tokenizer(synthetic.vocab_size(data['name']))
  path = source.folder / records.TOKENIZER_FILE
  if not path.exists():
    raise ConfigError(
      f'{source.folder} has no {records.TOKENIZER_FILE}; set data.tokenizer to '
      f"'bytes' or to the path of a tokenizer.json"
    )
  return tokenizers.Tokenizer.load(path, **given)
