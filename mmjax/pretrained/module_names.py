"""Names of layers in transformers' models, where they differ from the tensors'.

An adapter's folder names layers as PEFT finds them in the model in memory;
tensors of a model's own folder keep the names of older releases.
"""

import re
from collections.abc import Mapping, Sequence

from mmjax.pretrained import base

_IMAGE_TEXT = (
  (r'language_model\.lm_head', 'lm_head'),
  (r'language_model\.model\.', 'model.language_model.'),
  (r'(?=vision_tower\.|multi_modal_projector\.)', 'model.'),
)
_AUDIO_TEXT = (
  *_IMAGE_TEXT,
  (r'(?=audio_tower\.)', 'model.'),
)
_QWEN_VL = (
  (r'model\.', 'model.language_model.'),
  (r'visual\.', 'model.visual.'),
)
_QWEN_OMNI = (
  *_QWEN_VL,
  (r'(?=audio_tower\.)', 'model.'),
)
_ATTENTION = tuple(
  (rf'(.*\.)attention\.attention\.{name}$', rf'\1attention.{name[0]}_proj')
  for name in ('query', 'key', 'value')
)
_VIT = (
  *_ATTENTION,
  (r'(.*\.)attention\.output\.dense$', r'\1attention.o_proj'),
  (r'(.*\.)intermediate\.dense$', r'\1mlp.fc1'),
  (r'(.*\.\d+\.)output\.dense$', r'\1mlp.fc2'),
  (r'(.*\.)encoder\.layer\.', r'\1layers.'),
)
_DINOV2 = (
  *_ATTENTION,
  (r'(.*\.)attention\.output\.dense$', r'\1attention.o_proj'),
  (r'(.*\.)mlp\.weights_out$', r'\1mlp.down_proj'),
  # Two layers in memory.
  (r'.*\.mlp\.weights_in$', ''),
)
# model_type -> patterns at the beginning of a name, and replacements, in order.
_RENAMED: Mapping[str, Sequence[tuple[str, str]]] = {
  'audio-spectrogram-transformer': _VIT,
  'dinov2': _DINOV2,
  'dinov2_with_registers': _DINOV2,
  'gemma3': _IMAGE_TEXT,
  'internvl': _IMAGE_TEXT,
  'llava': _IMAGE_TEXT,
  'llava_onevision': _IMAGE_TEXT,
  'paligemma': _IMAGE_TEXT,
  'qwen2_5_omni_thinker': _QWEN_OMNI,
  'qwen2_5_vl': _QWEN_VL,
  'qwen2_audio': _AUDIO_TEXT,
  'qwen2_vl': _QWEN_VL,
  'vit': _VIT,
}


def in_memory(model_type: str, layer: str) -> str:
  """The name of a layer in transformers' model; '' if it is not a single one.

  Args:
    model_type: model type of config.json.
    layer: name of its tensors without '.weight', as in the key table.

  >>> in_memory('qwen2_vl', 'model.layers.0.mlp.up_proj')
  'model.language_model.layers.0.mlp.up_proj'
  """
  for pattern, new in _RENAMED.get(model_type, ()):
    layer = re.sub(f'^(?:{pattern})', new, layer)
  return layer


def in_table(family: base.Family, layer: str, known: Mapping[str, str]) -> str:
  """The name of a layer in the key table, '' if there is none.

  Args:
    family: the family of the model.
    layer: name of the layer in a model in memory, of this or an older release.
    known: names in memory of the layers in the table -> names in the table.
  """
  older = f'{layer}.'
  for pattern, new in family.aliases:
    older = re.sub(f'^(?:{pattern})', new, older)
  older = older.removesuffix('.')
  table = {name: name for name in known.values()} | dict(known)
  for name in (layer, older):
    for prefix in ('', *family.prefixes):
      for candidate in (prefix + name, name.removeprefix(prefix)):
        if candidate in table:
          return table[candidate]
  return ''
