"""Published image encoders by name, for configs: `image='vit-b16'`.

A name stands for the settings of a published size, with new weights, and
`dict(name='vit-b16', patch_dropout=0.5)` for them with others beside or instead
of some. Weights come with `init_from`.
"""

import difflib
import re
from collections.abc import Mapping
from typing import Any

from mmjax.errors import ConfigError


def _vit(patch_size: int, width: int, depth: int, num_heads: int) -> dict:
  # Dosovitskiy et al. 2021, table 1; S of Touvron et al. 2021, DeiT, table 1.
  return {
    'name': 'vit',
    'patch_size': patch_size,
    'width': width,
    'depth': depth,
    'num_heads': num_heads,
    'mlp_dim': 4 * width,
    'class_token': True,
    'pooling': 'first',
  }


def _resnet(block: str, *stages: int) -> dict:
  # He et al. 2016, table 1.
  return {
    'name': 'resnet',
    'stages': stages,
    'block': block,
    'width': 64,
    'stem': 'imagenet',
  }


PRESETS: Mapping[str, Mapping[str, Any]] = {
  'vit-s16': _vit(16, 384, 12, 6),
  'vit-b32': _vit(32, 768, 12, 12),
  'vit-b16': _vit(16, 768, 12, 12),
  'vit-l16': _vit(16, 1024, 24, 16),
  'vit-l14': _vit(14, 1024, 24, 16),
  'vit-h14': _vit(14, 1280, 32, 16),
  'resnet18': _resnet('basic', 2, 2, 2, 2),
  'resnet34': _resnet('basic', 3, 4, 6, 3),
  'resnet50': _resnet('bottleneck', 3, 4, 6, 3),
  'resnet101': _resnet('bottleneck', 3, 4, 23, 3),
  'resnet152': _resnet('bottleneck', 3, 8, 36, 3),
}
# Parts of models, and of `encoders` any, that a string may stand for.
_PARTS = ('image', 'vision')


def expand(model: Mapping[str, Any]) -> dict[str, Any]:
  """The `model` section of a config with the settings that names stand for.

  Args:
    model: plain data.

  Raises:
    ConfigError: for a string that is nearly the name of a preset.
  """
  out = {
    name: expand_part(f'model.{name}', part) if name in _PARTS else part
    for name, part in model.items()
  }
  if isinstance(out.get('encoders'), Mapping):
    out['encoders'] = {
      name: expand_part(f'model.encoders.{name}', part)
      for name, part in out['encoders'].items()
    }
  return out


def is_part(path: str) -> bool:
  """Whether a config's field may be a preset's name: 'model.image'."""
  *parents, name = path.split('.')
  return parents == ['model', 'encoders'] or (
    parents == ['model'] and name in _PARTS
  )


def expand_part(path: str, part: Any) -> Any:
  """The settings of a part of a model, those of its preset included.

  Args:
    path: path of the part, for messages.
    part: settings, a name alone, or None.

  Raises:
    ConfigError: for a string that is nearly the name of a preset.
  """
  if isinstance(part, str):
    part = {'name': part}
  if not isinstance(part, Mapping):
    return part
  name = part.get('name')
  _refuse_nearly(path, name)
  if name not in PRESETS:
    return part
  own = {key: value for key, value in part.items() if key != 'name'}
  return {**PRESETS[name], **own}


def _refuse_nearly(path: str, name: Any) -> None:
  """Refuses another spelling of a preset, such as 'ViT-B/16'."""
  plain = lambda text: re.sub(r'[^a-z0-9]', '', text.lower())
  if not isinstance(name, str) or name in PRESETS or name == plain(name):
    return
  close = difflib.get_close_matches(plain(name), map(plain, PRESETS), n=1)
  meant = [preset for preset in PRESETS if plain(preset) in close]
  if meant and re.search(r'\d', name):
    raise ConfigError(
      f'{path}={name!r} is unknown; did you mean {meant[0]!r}? The names of '
      f'published sizes are {", ".join(PRESETS)}'
    )
