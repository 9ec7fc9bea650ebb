"""Checks of the classes of records, which a split may lack or know alone."""

import collections

from mmjax.data import check_samples, features, sources
from mmjax.errors import ConfigError


def note_labelled(
  feature: features.Category, split: str, source: sources.Source
) -> list[str]:
  """Notes how many classes of training records are used.

  Raises:
    ConfigError: if none is.
  """
  if feature.labelled == 1:
    return []
  counts: collections.Counter = collections.Counter()
  number = with_class = 0
  for record in source.iterate_small():
    names = feature.get(record) or ()
    with_class += bool(names)
    if names and feature.is_labelled(record):
      number += 1
      counts.update(names)
  setting = f'data.features.{feature.name}.labelled={feature.labelled}'
  if not number:
    raise ConfigError(
      f'{setting} leaves none of the {with_class:,} records of {split} that '
      'have a class; use a larger fraction'
    )
  notes = [
    f'{setting} uses the class of {number:,} of the {with_class:,} records of '
    f'{split} that have one'
  ]
  missing = [name for name in feature.classes if name not in counts]
  if missing:
    notes.append(
      f'{setting} leaves no record of {len(missing)} of the '
      f'{len(feature.classes)} classes, which are not learnt from labels, such '
      'as ' + ', '.join(map(repr, missing[:3]))
    )
  return notes


def note_unknown_classes(
  feature: features.Category, split: str, source: sources.Source
) -> list[str]:
  """Notes how many of the sample's classes are not among the feature's."""
  counts = collections.Counter(
    name
    for _, record in check_samples.read(source)
    for name in feature.get(record) or ()
  )
  unknown = {n: c for n, c in counts.items() if n not in feature.classes}
  if not unknown:
    return []
  ordered = sorted(unknown, key=lambda name: (-unknown[name], name))
  return [
    f'{sum(unknown.values()):,} of {counts.total():,} classes {feature.name!r} '
    f'of {split} are not among the {len(feature.classes)} of '
    f'data.features.{feature.name}, and are left out, such as '
    + ', '.join(map(repr, ordered[:3]))
  ]
