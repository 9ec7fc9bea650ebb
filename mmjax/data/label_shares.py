"""Batches with a fixed fraction of examples that have a label.

With few labels, a batch that is drawn from all records alike has hardly any:
3 of 64 where 5% of the records are labelled. Drawn apart, as in FixMatch, the
labelled ones are repeated more often than the others.
"""

import fractions
from collections.abc import Mapping

from mmjax.data import features, mixtures, sources


def divide(
  source: sources.Source, fitted: Mapping[str, features.Feature]
) -> sources.Source:
  """Divides training records into those with and those without a label.

  Args:
    source: training records.
    fitted: features by name, of which one category may have a `labelled_share`.

  Returns:
    A mixture of 'labelled' and 'unlabelled' whose weights are the share and the
    rest; the source itself if no feature has a share.

  Raises:
    ConfigError: if two features have a share, the source is a mixture, or one
      of the two parts has no record.
  """
  chosen = [
    feature
    for feature in fitted.values()
    if isinstance(feature, features.Category)
    and feature.labelled_share is not None
  ]
  if not chosen:
    return source
  feature, *others = chosen
  if others:
    feature.refuse(
      'labelled_share',
      f'and that of data.features.{others[0].name} are both set, but batches '
      'are drawn by one category; leave one of them out',
    )
  if isinstance(source, mixtures.Mixture):
    feature.refuse(
      'labelled_share',
      'divides one data set, but data.mixture has several, which are drawn by '
      'their weights; leave out labelled_share or data.mixture',
    )
  share = fractions.Fraction(str(feature.labelled_share))  # 0.1 is one tenth.
  indices = {'labelled': [], 'unlabelled': []}
  for index, record in enumerate(source.iterate_small()):
    part = 'labelled' if feature.trains_on(record) else 'unlabelled'
    indices[part].append(index)
  for part, found in indices.items():
    if not found:
      feature.refuse(
        'labelled_share',
        f'needs {part} training records, and there are none; leave it out',
      )
  return mixtures.Mixture(
    {part: sources.Subset(source, found) for part, found in indices.items()},
    {'labelled': share, 'unlabelled': 1 - share},
  )
