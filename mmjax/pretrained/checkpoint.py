"""A published model: its module, parameters and what prepares its inputs."""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import tokenizers

from mmjax.pretrained import clip, keys, preprocess, siglip, tensors
from mmjax.types import Array, Params

FAMILIES: dict[str, ModuleType] = {'clip': clip, 'siglip': siglip}

_CONFIG = 'config.json'
_PREPROCESSOR = 'preprocessor_config.json'
_TOKENIZER = 'tokenizer.json'
# Small files that belong to a model, and go with it unchanged.
_FILES = (
  _PREPROCESSOR,
  _TOKENIZER,
  'tokenizer_config.json',
  'special_tokens_map.json',
  'vocab.json',
  'merges.txt',
)


@dataclasses.dataclass(frozen=True)
class Pretrained:
  """What `load` returns; `module` and `params` are all that JAX code needs.

  Attributes:
    module: a Linen module.
    params: its parameters, float32.
    config: the model's config.json.
    files: the folder's other small files by name, which `save` writes again.
  """

  module: nn.Module
  params: Params
  config: Mapping[str, Any]
  files: Mapping[str, bytes] = dataclasses.field(default_factory=dict)

  def encode_image(self, pictures: Any) -> Array:
    """Unit vectors [B, E] of pictures.

    Args:
      pictures: one or a list of Pillow images, uint8 [H, W, 3] or file paths.
    """
    pictures = [self.preprocess(_opened(p)) for p in _listed(pictures)]
    return self._compiled['encode_image'](self.params, jnp.stack(pictures))

  def encode_text(self, texts: str | Sequence[str]) -> Array:
    """Unit vectors [B, E] of texts."""
    return self._compiled['encode_text'](self.params, *self.tokenize(texts))

  @functools.cached_property
  def preprocess(self) -> preprocess.ImagePreprocessor:
    """Pictures to arrays."""
    return preprocess.ImagePreprocessor.from_config(
      json.loads(self._file(_PREPROCESSOR)), _family(self.config).PREPROCESSOR
    )

  @functools.cached_property
  def tokenizer(self) -> tokenizers.Tokenizer:
    """As published, but cutting texts at what the model reads."""
    tokenizer = tokenizers.Tokenizer.from_str(self._file(_TOKENIZER).decode())
    tokenizer.no_padding()
    tokenizer.enable_truncation(self._text_length)
    return tokenizer

  def tokenize(self, texts: str | Sequence[str]) -> tuple[Array, Array]:
    """Ids [B, T] and mask [B, T], T being the most that the model reads."""
    family = _family(self.config)
    encoded = self.tokenizer.encode_batch(_listed(texts))
    pad = 0
    if family.READS_PADDING:
      pad = (self.config.get('text_config') or {}).get('pad_token_id', 1)
    ids = np.full((len(encoded), self._text_length), pad, np.int32)
    mask = np.full(ids.shape, family.READS_PADDING)
    for row, one in enumerate(encoded):
      ids[row, : len(one.ids)] = one.ids
      mask[row, : len(one.ids)] = True
    return jnp.asarray(ids), jnp.asarray(mask)

  @property
  def _text_length(self) -> int:
    return _family(self.config).inputs(self.config)['text'].shape[1]

  def _file(self, name: str) -> bytes:
    if name not in self.files:
      raise ValueError(
        f"the model's folder had no {name}, which this needs; put the "
        'published one there and load again'
      )
    return self.files[name]

  @functools.cached_property
  def _compiled(self) -> dict[str, Callable[..., Array]]:
    def one(method: str) -> Callable[..., Array]:
      return jax.jit(
        lambda params, *inputs: self.module.apply(
          {'params': params}, *inputs, method=method
        )
      )

    return {method: one(method) for method in ('encode_image', 'encode_text')}


def load(folder: Path | str, *, dtype: Any = jnp.float32) -> Pretrained:
  """Opens a Hugging Face folder: config.json and safetensors.

  Args:
    folder: where it is.
    dtype: of the computation; parameters are float32.

  Raises:
    FileNotFoundError: if something is not there.
    ValueError: if the model is of no known family, its config has a value that
      mmjax doesn't know, or its tensors don't fit the config.
  """
  folder = Path(folder)
  if not (folder / _CONFIG).exists():
    raise FileNotFoundError(
      f'{folder} has no {_CONFIG}; give the folder of a Hugging Face model'
    )
  config = json.loads((folder / _CONFIG).read_text())
  family = _family(config)
  module = family.module(config, dtype)
  params = keys.load(
    family.rules(config),
    tensors.Tensors(folder),
    shapes(module, family.inputs(config)),
    skip=family.SKIP,
  )
  files = {
    name: (folder / name).read_bytes()
    for name in _FILES
    if (folder / name).exists()
  }
  return Pretrained(module, params, config, files)


def save(
  model: Pretrained,
  folder: Path | str,
  *,
  shard_bytes: int = tensors.SHARD_BYTES,
) -> None:
  """Writes a folder that transformers, and `load`, can open.

  Args:
    model: what to write.
    folder: is made if it is not there.
    shard_bytes: what one file of tensors holds at most.
  """
  folder = Path(folder)
  rules = _family(model.config).rules(model.config)
  tensors.write(folder, keys.save(rules, model.params), shard_bytes)
  config = json.dumps(dict(model.config), indent=2)
  (folder / _CONFIG).write_text(config)
  for name, content in model.files.items():
    (folder / name).write_bytes(content)


def shapes(module: nn.Module, inputs: Any) -> Params:
  """The parameters' shapes and types; nothing is computed."""
  variables = jax.eval_shape(
    functools.partial(module.init, train=False), jax.random.key(0), inputs
  )
  return nn.meta.unbox(variables['params'])


def _family(config: Mapping[str, Any]) -> ModuleType:
  kind = config.get('model_type')
  if kind not in FAMILIES:
    raise ValueError(
      f'config.json: model_type is {kind!r}; mmjax knows {sorted(FAMILIES)}'
    )
  return FAMILIES[kind]


def _listed(given: Any) -> list[Any]:
  return list(given) if isinstance(given, list | tuple) else [given]


def _opened(picture: Any) -> Any:
  if isinstance(picture, str | Path):
    with PIL.Image.open(picture) as opened:
      opened.load()
      return opened
  return picture
