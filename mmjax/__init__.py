"""mmjax: multimodal models in JAX and Flax, trained under one loop."""

import importlib
from typing import Any

__version__ = '0.1.0'
__all__ = ['load', 'save']


def __getattr__(name: str) -> Any:
  # Only when asked for, so that `import mmjax` is quick.
  if name in __all__:
    return getattr(importlib.import_module('mmjax.interchange'), name)
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
