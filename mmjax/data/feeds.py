"""Opens the data that the `data` section of a config describes."""

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
    preprocess: function from a record to arrays.
    train: training batches.
    splits: evaluation splits: 'test', 'val' if the config names one, and each
      of `extra_splits` by its name.
    init_batch: two training examples that give the shapes of a batch.
    files: functions by file name that write to a run's folder what
      preprocessing needs again.
    notes: notes on the data for the user.
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
    seed: random seed of order and augmentation.
    text: whether batches have captions.
    question: whether batches have questions.
    answer: whether batches have answers as text.
    label: whether batches have answers as indices in training's vocabulary.
    rows: rows of every training batch that this host reads; None for all.
    needs: modalities of each objective, for `checks.check`; None: no checks.

  Raises:
    ConfigError: if data set or tokenizer are missing, or something is refused.
  """
  train, splits = _open_splits(data)
  tokenizer = _open_tokenizer(data, train)
  wanted = {'text': text, 'question': question, 'answer': answer}
  lengths = {
    f'{name}_length': data[f'{name}_length'] if is_wanted else 0
    for name, is_wanted in wanted.items()
  }
  answers = sources.build_answer_vocabulary(train) if label else ()
  preprocessor = _make_preprocessor(data, tokenizer, lengths, answers)
  notes = ()
  if needs and not synthetic.is_synthetic(data['name']):
    notes = _check(data, train, splits, preprocessor, needs)
  if batch_size > len(train):
    notes += (
      f'train.batch_size={batch_size} is more than the {len(train)} records of '
      f'data.train_split={data["train_split"]!r}, so that each batch repeats '
      'some; a contrastive loss then takes an image for its own negative',
    )
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
    init_batch=_read_init_batch(train, preprocessor, data['on_error']),
    files=_list_files(tokenizer, preprocessor),
    notes=notes,
  )


def _list_files(
  tokenizer: tokenizers.Tokenizer, preprocessor: preprocess.Preprocessor
) -> dict[str, Callable[[pathlib.Path], None]]:
  return {
    'tokenizer.json': tokenizer.save,
    'preprocess.json': preprocessor.save,
  }


def _open_splits(
  data: Mapping[str, Any],
) -> tuple[sources.Source, dict[str, sources.Source]]:
  """Opens the training split, and those to evaluate on by name."""

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
  return train, splits


def _make_preprocessor(
  data: Mapping[str, Any],
  tokenizer: tokenizers.Tokenizer,
  lengths: Mapping[str, int],
  answers: Sequence[str],
) -> preprocess.Preprocessor:
  """Makes the preprocessor of a config, with the lengths that are needed."""
  same = ('resize', 'mean', 'std', 'num_questions', 'text_fields_in_evaluation')
  return preprocess.Preprocessor(
    tokenizer=tokenizer,
    image_size=0 if data['blind'] else data['image_size'],
    augment=data['augment'] or (),
    text_fields=data['text_fields'] or {},
    answers=answers,
    **{name: data[name] for name in same},
    **lengths,
  )


def _read_init_batch(
  train: sources.Source, preprocessor: preprocess.Preprocessor, on_error: str
) -> batches.Batch:
  """Reads two training examples, for shapes."""
  sample = sources.Subset(train, range(min(2, len(train))))
  with batches.iterate_eval(
    sample, preprocessor, 2, on_error=on_error
  ) as iterator:
    init_batch = next(iterator)
  for key in ('mask', 'replaced'):
    init_batch.pop(key, None)
  return init_batch


def _check(
  data: Mapping[str, Any],
  train: sources.Source,
  splits: Mapping[str, sources.Source],
  preprocessor: preprocess.Preprocessor,
  needs: checks.Needs,
) -> tuple[str, ...]:
  """Checks the data, whose splits are named by their settings."""
  others = {_name_setting(data, name): split for name, split in splits.items()}
  named_train = f'data.train_split={data["train_split"]!r}', train
  return checks.check(named_train, others, preprocessor, needs)


def _name_setting(data: Mapping[str, Any], name: str) -> str:
  """Returns the setting that names a split in the config."""
  field = {'val': 'eval_split', 'test': 'test_split'}.get(name)
  if field is None:
    return f'data.extra_splits: {name!r}'
  return f'data.{field}={data[field]!r}'


def _open_tokenizer(
  data: Mapping[str, Any], source: sources.Source
) -> tokenizers.Tokenizer:
  """Opens the tokenizer of a config: 'bytes', a file, or the data set's."""
  setting = data['tokenizer']
  default = 'bytes' if synthetic.is_synthetic(data['name']) else ''
  settings = {'bos': data['bos'], 'lower_case': data['lower_case']}
  for name, value in settings.items():
    if value not in (None, False) and (setting or default) == 'bytes':
      raise ConfigError(
        f'data.{name}={value!r} needs a tokenizer from a file; leave it out, '
        'or set data.tokenizer to a tokenizer.json'
      )
  if setting == 'bytes':
    return tokenizers.make_byte_tokenizer()
  if setting:
    return tokenizers.Tokenizer.load(setting, **settings)
  if synthetic.is_synthetic(data['name']):
    return synthetic.make_tokenizer(synthetic.parse_vocab_size(data['name']))
  path = source.folder / records.TOKENIZER_FILE
  if not path.exists():
    raise ConfigError(
      f'{source.folder} has no {records.TOKENIZER_FILE}; set data.tokenizer to '
      f"'bytes' or to the path of a tokenizer.json"
    )
  return tokenizers.Tokenizer.load(path, **settings)
