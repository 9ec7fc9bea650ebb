"""Lets tests say `import small_program`, `import made_up`, and `import toy`."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.append(str(pathlib.Path(__file__).parents[1] / 'training'))
