"""Lets tests, and the processes they start, say `import trivial` or `toy`."""

import pathlib
import sys

for folder in ('sweeps', 'training'):
  sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / folder))
