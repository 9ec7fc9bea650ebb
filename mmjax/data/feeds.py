"""Opens the data that the `data` section of a config describes."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmjax.data import (
  batches,
  checks,
  features,
  preprocess,
  records,
  sources,
  synthetic,
  tokenizers,
)
from mmjax.errors import ConfigError

# Settings in `data` of the features that need no entry in `data.features`.
STANDARD = {
  'image': {
    'size': 'image_size',
    'resize': 'resize',
    'mean': 'mean',
    'std': 'std',
  },
  'text': {'length': 'text_length'},
  'question': {'length': 'question_length'},
}


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
  needs: checks.Needs,
  built: Mapping[str, features.Feature] | None = None,
  rows: Sequence[int] | None = None,
) -> Feed:
  """Opens the data set, its tokenizer and the batches.

  Args:
    data: the `data` section of a config.
    batch_size: examples in a global training batch.
    seed: random seed of order and augmentation.
    needs: keys of the arrays that each task needs.
    built: features by name; None for those of `build_features`.
    rows: rows of every training batch that this host reads; None for all.

  Raises:
    ConfigError: if data set or tokenizer are missing, or something is refused.
  """
  if built is None:
    built = build_features(data, needs)
  train, splits = _open_splits(data)
  _check_fields(built, train)
  tokenizer = _open_tokenizer(data, train, built)
  preprocessor = preprocess.Preprocessor(
    preprocess.fit(built, train), tokenizer
  )
  notes = ()
  if not synthetic.is_synthetic(data['name']):
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


def build_features(
  data: Mapping[str, Any],
  needs: checks.Needs,
  reads: Sequence[str] = (),
  kinds: Mapping[str, type[features.Feature]] = features.KINDS,
) -> dict[str, features.Feature]:
  """Builds the features of a config.

  Those of images, captions and questions need no entry in `data.features`: the
  settings of `data` describe them.

  Args:
    data: the `data` section of a config.
    needs: keys of the arrays that each task needs.
    reads: features that the model reads.
    kinds: classes of features by kind.

  Raises:
    ConfigError: if a feature is not legal, a task or the model needs an array
      that no feature makes, or nothing needs a feature.
  """
  wanted = set().union(reads, *needs.values())
  own = _get_own(data)
  settings = _describe_standard(data, wanted)
  built = preprocess.build({**settings, **own}, kinds)
  made = {key for feature in built.values() for key in feature.list_keys()}
  for task, keys in needs.items():
    for key in keys:
      if key not in made and not (key == 'image' and data['blind']):
        raise ConfigError(
          f'tasks.{task} needs {key!r}, but data.features makes only '
          f'{", ".join(sorted(k for k in made if not k.endswith("_mask")))}; '
          f'add it, as in data.features.{key}=dict(kind=...)'
        )
  for name in own:
    if not wanted & set(built[name].list_keys()):
      raise ConfigError(
        f'data.features.{name} is read by nothing: model and tasks read '
        f'{", ".join(sorted(wanted))}; remove it, or name it in a task or in '
        'model.encoders'
      )
  return built


def _get_own(data: Mapping[str, Any]) -> dict[str, Any]:
  """The features that the config names itself, as plain data."""
  own = data['features'] or {}
  return own.to_dict() if hasattr(own, 'to_dict') else dict(own)


def _describe_standard(
  data: Mapping[str, Any], wanted: set[str]
) -> dict[str, dict[str, Any]]:
  """Settings of the features of images, captions and questions.

  Args:
    data: the `data` section of a config.
    wanted: keys of the arrays that tasks need.
  """
  settings: dict[str, dict[str, Any]] = {}
  if 'text' in wanted:
    settings['text'] = {
      'kind': 'text',
      'field': 'captions',
      'length': data['text_length'],
      'metadata': data['text_fields'] or {},
      'metadata_in_evaluation': data['text_fields_in_evaluation'],
    }
  if wanted & {'question', 'answer', 'label'}:
    is_question, is_answer = 'question' in wanted, 'answer' in wanted
    settings['questions'] = {
      'kind': 'questions',
      'length': data['question_length'] if is_question else 0,
      'answer_length': data['answer_length'] if is_answer else 0,
      'has_label': 'label' in wanted,
      'number': data['num_questions'],
    }
  if 'image' in wanted and not data['blind']:
    image = {ours: data[name] for ours, name in STANDARD['image'].items()}
    settings['image'] = {
      'kind': 'image',
      **image,
      'augment': data['augment'] or (),
    }
  return settings


def _check_fields(
  built: Mapping[str, features.Feature], source: sources.Source
) -> None:
  """Refuses features whose field the data set lacks or has of another kind."""
  for name, feature in built.items():
    field = feature.source
    if field.startswith('metadata/'):
      continue
    kind = source.kinds.get(field)
    if kind is None:
      raise ConfigError(
        f'data.features.{name} reads the field {field!r}, but the data set has '
        f'{", ".join(source.kinds)}; name one with '
        f"data.features.{name}.field, or a metadata field as 'metadata/NAME'"
      )
    if kind not in feature.reads:
      raise ConfigError(
        f'data.features.{name} of the kind {feature.kind} cannot read the '
        f'field {field!r}, which is of the kind {kind}'
      )


def _list_files(
  tokenizer: tokenizers.Tokenizer | None,
  preprocessor: preprocess.Preprocessor,
) -> dict[str, Callable[[pathlib.Path], None]]:
  files = {'preprocess.json': preprocessor.save}
  if tokenizer is not None:
    files['tokenizer.json'] = tokenizer.save
  return files


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
  own = _get_own(data)
  lengths = {
    key: f'data.{key}_length'
    for key, name in (
      ('text', 'text'),
      ('question', 'questions'),
      ('answer', 'questions'),
    )
    if name not in own
  }
  needed = {
    name: [key for key in keys if preprocessor.find(key)]
    for name, keys in needs.items()
  }
  found = checks.Checks(preprocessor, needed, lengths)
  return found.run(named_train, others)


def _name_setting(data: Mapping[str, Any], name: str) -> str:
  """Returns the setting that names a split in the config."""
  field = {'val': 'eval_split', 'test': 'test_split'}.get(name)
  if field is None:
    return f'data.extra_splits: {name!r}'
  return f'data.{field}={data[field]!r}'


def _open_tokenizer(
  data: Mapping[str, Any],
  source: sources.Source,
  built: Mapping[str, features.Feature],
) -> tokenizers.Tokenizer | None:
  """Opens the tokenizer of a config: 'bytes', a file, or the data set's.

  None if no feature needs one.
  """
  if not any(feature.uses_tokenizer for feature in built.values()):
    return None
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
