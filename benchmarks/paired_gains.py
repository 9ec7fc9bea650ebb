"""A table of accuracies by seed, with gains over labels alone."""

import statistics
from collections.abc import Mapping, Sequence


def format_table(rows: Mapping[str, Sequence[float]]) -> str:
  """The table of all accuracies so far, by variant.

  `gain` is the mean over seeds of the difference from labels alone with the
  same seed: the same initial parameters and labelled examples.
  """
  lines = ['variant       mean   sd     gain    sd     seeds']
  for name, found in rows.items():
    each = ' '.join(f'{accuracy:.3f}' for accuracy in found)
    peers = () if name in ('labels', 'teacher') else rows.get('labels', ())
    gains = [x - y for x, y in zip(found, peers, strict=False)]
    gain = f'{statistics.mean(gains):+.3f}' if gains else '-     '
    lines.append(
      f'{name:12}  {statistics.mean(found):.3f}  {_sd(found)}  {gain}  '
      f'{_sd(gains)}  {each}'
    )
  return '\n'.join(lines)


def _sd(values: Sequence[float]) -> str:
  return f'{statistics.stdev(values):.3f}' if len(values) > 1 else '-    '
