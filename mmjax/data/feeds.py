"""Opens the data that the `data` section of a config describes."""

import dataclasses
import pathlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from mmjax.data import (
  batches,
  checks,
  conversation_packing,
  data_sets,
  features,
  label_shares,
  mixtures,
  preprocess,
  sources,
  tokenizers,
  variants,
)
from mmjax.errors import ConfigError, suggest

# Settings in `data` of how training batches are read.
_READING = ('num_threads', 'num_workers', 'prefetch', 'on_error')
# Settings in `data` of the inputs that need no entry in `data.features`.
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
    preprocessor: function from a record to arrays.
    train: training batches.
    train_source: the records that they are made of.
    batch_source: the same, in the order of a category's `labelled_share`: a
      batch's `index` is a number of these, of packed conversations of their
      rows.
    splits: evaluation splits: 'test' and 'val' if the config names them, and
      each of `extra_splits` by its name; of a mixture 'test/SOURCE',
      'val/SOURCE' and 'test/SOURCE/NAME'.
    init_batch: model inputs of two training examples as evaluation makes them,
      for shapes: one question an image.
    files: functions by file name that write to a run's folder what
      preprocessing needs again.
    notes: notes on the data for the user.
    sections: by split, the `data` section of its source.
    lacking: by split of a mixture, the tasks and keys of arrays that no record
      has together, as `checks.Checks.find_lacking` finds them.
    sources: names of a mixture's sources, or 'labelled' and 'unlabelled' of a
      category with a `labelled_share`, by `source_index`; else empty.
  """

  preprocessor: preprocess.Preprocessor
  train: batches.TrainBatches
  train_source: sources.Source
  batch_source: sources.Source
  splits: Mapping[str, sources.Source]
  init_batch: batches.Batch
  files: Mapping[str, Callable[[pathlib.Path], None]]
  notes: tuple[str, ...] = ()
  sections: Mapping[str, Mapping[str, Any]] = dataclasses.field(
    default_factory=dict
  )
  lacking: Mapping[str, Collection[checks.Choice]] = dataclasses.field(
    default_factory=dict
  )
  sources: tuple[str, ...] = ()


def open_feed(
  data: Mapping[str, Any],
  *,
  batch_size: int,
  seed: int,
  needs: checks.Needs,
  built: Mapping[str, features.Feature] | None = None,
  rows: Callable[[int], Sequence[int]] | None = None,
  multiple: int = 1,
  alternatives: Mapping[str, Sequence[Sequence[str]]] | None = None,
) -> Feed:
  """Opens the data set, its tokenizer and the batches.

  Args:
    data: the `data` section of a config.
    batch_size: examples in a global training batch.
    seed: random seed of order and augmentation.
    needs: keys of the arrays that each task needs.
    built: features by name; None for those of `build_features`.
    rows: rows that this host reads of a batch of some size; None for all.
    multiple: what divides the size of every training batch.
    alternatives: by task, sets of keys of which an example needs one; None if
      each task needs all of its keys.

  Raises:
    ConfigError: if data set or tokenizer are missing, or something is refused.
  """
  checks.check_workers(data['num_workers'])
  built = build_features(data, needs) if built is None else built
  opened = data_sets.open_all(data)
  train = opened.train
  check_fields(built, train)
  tokenizer = data_sets.open_tokenizer(opened, data, built)
  fitted = preprocess.fit(built, train)
  preprocessor = preprocess.Preprocessor(fitted, tokenizer, train.complete)
  checked = _make_checks(data, preprocessor, needs, alternatives or {})
  lacking, notes = _check(data, opened, checked)
  drawn = label_shares.divide(train, fitted)
  stream = batches.TrainBatches(
    *conversation_packing.pack(drawn, preprocessor, seed),
    batch_size=batch_size,
    seed=seed,
    rows=rows,
    **{name: data[name] for name in _READING},
    variants=variants.list_variants(preprocessor),
    multiple=multiple,
  )
  return Feed(
    preprocessor=preprocessor,
    train=stream,
    train_source=train,
    batch_source=drawn,
    splits=opened.splits,
    init_batch=_read_init_batch(drawn, preprocessor, data['on_error']),
    files=_list_files(tokenizer, preprocessor),
    notes=notes + _note_repeats(opened, max(stream.batch_sizes)),
    sections=opened.list_sections(),
    lacking=lacking,
    sources=_list_sources(drawn),
  )


def _list_sources(source: sources.Source) -> tuple[str, ...]:
  """Names of the parts that batches are drawn from; empty of a single one."""
  return tuple(source.parts) if isinstance(source, mixtures.Mixture) else ()


def build_features(
  data: Mapping[str, Any],
  needs: checks.Needs,
  inputs: Sequence[str] = (),
  kinds: Mapping[str, type[features.Feature]] = features.KINDS,
) -> dict[str, features.Feature]:
  """Builds the features of a config.

  Those of images, captions and questions need no entry in `data.features`: the
  settings of `data` describe them.

  Args:
    data: the `data` section of a config.
    needs: keys of the arrays that each task needs.
    inputs: features that the model reads.
    kinds: classes of features by kind.

  Raises:
    ConfigError: if a feature is not legal, a task or the model needs an array
      that no feature makes, or nothing needs a feature.
  """
  wanted = set().union(inputs, *needs.values())
  own = _get_own(data)
  settings = _describe_standard(data, wanted)
  built = preprocess.build({**settings, **own}, kinds)
  made = {key for feature in built.values() for key in feature.list_keys()}
  for task, keys in needs.items():
    for key in keys:
      if key not in made and not (key == 'image' and data['blind']):
        names = sorted(k for k in made if not k.endswith('_mask'))
        sources = {f.field_name: name for name, f in built.items()}
        meant = {'captions': 'text', **sources}.get(key)
        hint = f'; did you mean {meant!r}?' if meant else suggest(key, names)
        raise ConfigError(
          f'tasks.{task} needs {key!r}, but data.features makes only '
          f'{", ".join(names)}; add it, as in data.features.{key}='
          f'dict(kind=...){hint}'
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
  return _make_plain(data['features'])


def _make_plain(section: Any) -> dict[str, Any]:
  """A section of a config as a dict; ConfigDict is not a Mapping."""
  section = section or {}
  return section.to_dict() if hasattr(section, 'to_dict') else dict(section)


def _describe_standard(
  data: Mapping[str, Any], wanted: set[str]
) -> dict[str, dict[str, Any]]:
  """Settings of the features of images, captions and questions.

  Args:
    data: the `data` section of a config.
    wanted: keys of the arrays that tasks need or the model reads.
  """
  settings: dict[str, dict[str, Any]] = {}
  if 'text' in wanted:
    settings['text'] = {
      'kind': 'text',
      'field': 'captions',
      'length': data['text_length'],
      'metadata': _make_plain(data['text_fields']),
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
      'scaled_decoding': data['scaled_decoding'],
    }
  return settings


def check_fields(
  built: Mapping[str, features.Feature], source: sources.Source
) -> None:
  """Refuses features whose field no data set has, or has of another kind.

  Raises:
    ConfigError: naming the feature, its field and those that there are.
  """
  parts = source.parts if isinstance(source, mixtures.Mixture) else {}
  for name, feature in built.items():
    field = feature.field_name
    if field.startswith('metadata/'):
      continue
    kind = source.kinds.get(field)
    if kind is None:
      owners = (
        'none of the sources has it; they have'
        if parts
        else ('the data set has')
      )
      raise ConfigError(
        f'data.features.{name} reads the field {field!r}, but {owners} '
        f'{", ".join(source.kinds)}; name one with '
        f"data.features.{name}.field, or a metadata field as 'metadata/NAME'"
      )
    kinds = {
      part: own.kinds[field]
      for part, own in parts.items()
      if field in own.kinds
    }
    if len(set(kinds.values())) > 1:
      listed = ' and '.join(f'{k} in {part}' for part, k in kinds.items())
      raise ConfigError(
        f'data.features.{name} reads the field {field!r}, which is of the kind '
        f'{listed}; sources of a mixture need the same kind of a field, so '
        'import one of them again with another kind or name of the field'
      )
    if kind not in feature.field_kinds:
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
  if isinstance(train, mixtures.Mixture):
    init_batch['source_index'] = np.zeros_like(init_batch['index'], np.int32)
  return preprocessor.make_inputs(init_batch)


def _make_checks(
  data: Mapping[str, Any],
  preprocessor: preprocess.Preprocessor,
  needs: checks.Needs,
  alternatives: Mapping[str, Sequence[Sequence[str]]],
) -> checks.Checks:
  """Makes the checks of a run; a blind one has no images."""
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
  keep = lambda keys: [key for key in keys if preprocessor.find(key)]
  return checks.Checks(
    preprocessor,
    {task: keep(keys) for task, keys in needs.items()},
    lengths,
    {task: list(map(keep, sets)) for task, sets in alternatives.items()},
    data['on_cut'],
  )


def _check(
  data: Mapping[str, Any], opened: data_sets.DataSets, found: checks.Checks
) -> tuple[dict[str, Collection[checks.Choice]], tuple[str, ...]]:
  """Checks the data, whose splits are named by their settings.

  Returns:
    What the splits of a mixture lack, as in `Feed`; and notes.
  """
  if opened.is_synthetic:
    return {}, ()
  settings = {split: opened.name_setting(split) for split in opened.splits}
  others = {settings[split]: rows for split, rows in opened.splits.items()}
  if not data['mixture']:
    name = f'data.train_split={data["train_split"]!r}'
    return {}, found.run((name, opened.train), others)
  notes = found.run(('data.mixture', opened.train), others, lacking=others)
  lacking = {
    split: found.find_lacking(settings[split], rows)
    for split, rows in opened.splits.items()
  }
  if not lacking:
    return {}, notes
  nowhere = set.intersection(*map(set, lacking.values()))
  first = next(iter(lacking.values()))
  for task in found.needs:
    choices = found.list_choices(task)
    if nowhere.issuperset(choices):
      found.refuse({choice: first[choice] for choice in choices})
  notes += tuple(
    f'no evaluation on {split}: {reason}'
    for split, reasons in lacking.items()
    for reason in reasons.values()
  )
  return lacking, notes


def _note_repeats(
  opened: data_sets.DataSets, batch_size: int
) -> tuple[str, ...]:
  """Notes the sources of which every batch repeats some records."""
  notes, parts = [], opened.list_parts()
  for source in mixtures.name_repeated(opened.train, batch_size):
    path = f'data.mixture.{source}' if source else 'data'
    number, split = len(parts[source]), opened.sections[source]['train_split']
    part = f'the part of {source} in ' if source else ''
    notes.append(
      f'{part}a batch of {batch_size} examples is more than the {number} '
      f'records of {path}.train_split={split!r}, so that it repeats some; a '
      'contrastive loss would take an image for its own negative, others only '
      'lose variety'
    )
  return tuple(notes)
