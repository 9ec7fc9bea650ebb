"""Categories of a data set that a model without training on it predicts."""

import collections
import dataclasses
import itertools
from collections.abc import Sequence

from mmjax import tasks
from mmjax.data import features, feeds, sources
from mmjax.errors import ConfigError, suggest

_SHOWN = 5


def find(source: sources.Source) -> list[str]:
  """Fields of a data set that are categories."""
  return [name for name, kind in source.kinds.items() if kind == 'category']


def choose(source: sources.Source, target: str) -> str:
  """The category that is predicted.

  Args:
    source: records.
    target: field, or 'metadata/NAME'; '' for the only category.

  Raises:
    ConfigError: if none is chosen, and there isn't exactly one.
  """
  if target:
    return target
  found = find(source)
  if len(found) != 1:
    has = f'the categories {", ".join(found)}' if found else 'no category'
    raise ConfigError(
      f'the data set has {has}; choose what to predict with --target=FIELD, or '
      '--target=metadata/NAME'
    )
  return found[0]


def make(
  source: sources.Source,
  field: str,
  classes: Sequence[str] = (),
  num_examples: int = 0,
) -> features.Category:
  """The feature `target` of one class a record.

  Args:
    source: records.
    field: field of the class.
    classes: names of the classes; empty for those that the data set lists, else
      those of the records.
    num_examples: number of records that are measured, from the first; 0 for
      all.

  Raises:
    ConfigError: if there is no such field, a record has several classes, fewer
      than two classes are left, or none of them is one of `classes`.
  """
  feature = features.Category(name='target', field=field)
  if not field.startswith('metadata/') and field not in source.kinds:
    raise ConfigError(
      f'--target={field}: the data set has {", ".join(source.kinds)}; '
      f'{_list_metadata(source, field)}'
    )
  feeds.check_fields({'target': feature}, source)
  counts: collections.Counter = collections.Counter()
  measured: collections.Counter = collections.Counter()
  for number, record in enumerate(source.iterate_small()):
    names = feature.get(record) or []
    if len(names) > 1:
      raise ConfigError(
        f'--target={field}: the record {record["id"]!r} has the classes '
        f'{", ".join(names)}, but one is predicted; choose another field'
      )
    counts.update(names)
    if not num_examples or number < num_examples:
      measured.update(names)
  if not counts and field not in source.kinds:
    raise ConfigError(
      f'--target={field}: no record has that; {_list_metadata(source, field)}'
    )
  listed = source.classes.get(field) or sorted(counts)
  chosen = tuple(classes) or tuple(listed)
  if len(chosen) < 2:
    raise ConfigError(
      f'--target={field}: the records have {", ".join(chosen) or "no class"}; '
      'at least two classes are needed'
    )
  if measured.keys().isdisjoint(chosen):
    raise ConfigError(
      f'--target={field}: the records have {_list(list(measured))}, of which '
      f'none is one of the {len(chosen)} classes {_list(chosen)}'
    )
  return dataclasses.replace(feature, classes=chosen)


def describe_origin(
  source: sources.Source, field: str, classes: Sequence[str]
) -> str:
  """Says where the classes of `make` come from, for a note.

  Args:
    source: records.
    field: field of the class.
    classes: names of the classes that were asked for; empty for none.
  """
  if classes:
    return 'of --classes'
  if source.classes.get(field):
    return 'which the data set lists'
  return 'those of the records of this split alone (--classes names others)'


def _list_metadata(source: sources.Source, field: str) -> str:
  """The metadata fields that there are, and the one that may be meant."""
  names = source.list_metadata()
  listed = f'{", ".join(names) or "nothing"} (written metadata/NAME)'
  # Names alone: the prefix would make all of them alike.
  return f'the metadata has {listed}' + suggest(
    field.removeprefix('metadata/'), names
  )


def note_other_classes(
  source: sources.Source, target: features.Category, num_examples: int = 0
) -> tuple[str, ...]:
  """A note about the measured records that have none of the classes.

  Args:
    source: records.
    target: the feature, with its classes.
    num_examples: number of records, from the first; 0 for all.
  """
  number = num_examples or len(source)
  records = itertools.islice(source.iterate_small(), number)
  lacking = sum(
    not set(target.get(record) or ()) & set(target.classes)
    for record in records
  )
  if not lacking:
    return ()
  total = min(number, len(source))
  return (
    f'{lacking} of {total} records have another class, or none, and are left '
    'out',
  )


def _list(names: Sequence[str]) -> str:
  """The first of some names, for a message."""
  shown = ', '.join(map(repr, names[:_SHOWN]))
  return f'{shown}, ...' if len(names) > _SHOWN else shown or 'no class'


def make_report_rows(
  name: str, target: str, how: str
) -> tuple[tasks.ReportRow, ...]:
  """Rows of the table for one class a record.

  Args:
    name: prefix of the metrics' names.
    target: field of the class.
    how: what follows the target in the label.
  """
  short = target.removeprefix('metadata/')
  return (
    tasks.ReportRow(
      f'{short} {how}', f'{name}/accuracy', f'{name}/majority_accuracy'
    ),
  )
