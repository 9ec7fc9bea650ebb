"""mmjax: multimodal models in JAX and Flax, trained under one loop."""

import importlib
from typing import Any

__version__ = '0.1.0'
__all__ = ['load', 'save', 'save_adapter', 'train']

_MODULES = {
  'load': 'mmjax.interchange',
  'save': 'mmjax.interchange',
  'save_adapter': 'mmjax.interchange',
  'train': 'mmjax.training.interactive',
}


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
  # Only when asked for, so that `import mmjax` is quick.
  if name in _MODULES:
    return getattr(importlib.import_module(_MODULES[name]), name)
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
