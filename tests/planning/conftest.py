"""Lets tests say `import small_program`."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
