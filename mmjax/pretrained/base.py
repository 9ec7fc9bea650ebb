"""What every published model has: module, parameters, config and files."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import tokenizers

from mmjax.data import images
from mmjax.pretrained import (
  configs,
  keys,
  preprocess,
  sections,
  tokenizer_files,
  tokenizer_settings,
)
from mmjax.types import Array, Batch, Params

PREPROCESSOR = 'preprocessor_config.json'
# Newer releases have the former in it.
PROCESSOR = 'processor_config.json'
TOKENIZER = 'tokenizer.json'
# Among a model's files, but not in its folder: tensors of `Family.KEPT`.
KEPT = 'kept.safetensors'


@dataclasses.dataclass(frozen=True, repr=False)
class Pretrained:
  """A published model; `module` and `params` are all that JAX code needs.

  What else it can do is in the subclass of its kind.

  Attributes:
    module: a Linen module.
    params: its parameters.
    config: the model's config.json.
    files: the folder's other small files by name, which `save` writes again.
    image_defaults: what its family takes where preprocessor_config.json is
      silent.
    lower_case: whether texts become lower case before its tokenizer, which
      doesn't do that itself.
  """

  module: nn.Module
  params: Params
  config: Mapping[str, Any]
  files: Mapping[str, bytes] = dataclasses.field(default_factory=dict)

  image_defaults: ClassVar[Mapping[str, Any]] = {}
  lower_case: ClassVar[bool] = False

  def __repr__(self) -> str:
    number = sum(leaf.size for leaf in jax.tree.leaves(self.params))
    kind = self.config.get('model_type')
    return f'<{kind}: {type(self.module).__name__}, {number:,} parameters>'

  @classmethod
  def preprocessor(
    cls, settings: Mapping[str, Any]
  ) -> preprocess.ImagePreprocessor:
    """How pictures are prepared.

    Args:
      settings: what preprocessor_config.json holds.
    """
    return preprocess.ImagePreprocessor.from_config(
      settings, cls.image_defaults
    )

  @functools.cached_property
  def preprocess(self) -> preprocess.ImagePreprocessor:
    """Pictures to arrays."""
    return self.preprocessor(self.image_settings())

  def image_settings(self) -> dict[str, Any]:
    """What preprocessor_config.json holds.

    Raises:
      ValueError: if there is none.
    """
    return image_settings(self.files) or self.settings(PREPROCESSOR)

  def pixels(self, pictures: Any) -> Array:
    """Arrays [B, H, W, 3] of pictures, as the model reads them.

    Args:
      pictures: one or a list of Pillow images, uint8 [H, W, 3] or file paths.
    """
    return jnp.stack(
      [self.preprocess(images.to_array(p)) for p in listed(pictures)]
    )

  @functools.cached_property
  def tokenizer(self) -> tokenizers.Tokenizer:
    """As published, by both its files; it neither pads nor cuts."""
    tokenizer = tokenizer_files.parsed(self.file(TOKENIZER), TOKENIZER)
    if tokenizer_settings.FILE in self.files:
      settings = self.settings(tokenizer_settings.FILE)
      tokenizer_settings.apply(tokenizer, settings)
    return tokenizer

  def file(self, name: str) -> bytes:
    """A small file of the model's folder.

    Raises:
      ValueError: if there was none.
    """
    if name not in self.files:
      raise ValueError(
        f"the model's folder had no {name}, which this needs; put the "
        'published one there and load again'
      )
    return self.files[name]

  def settings(self, name: str, kind: type = dict) -> Any:
    """What a small JSON file of the model's folder holds.

    Raises:
      ValueError: if there was none, or it is broken, see `configs.parsed`.
    """
    return configs.parsed(self.file(name), name, kind)

  def compiled(self, method: str, **settings: Any) -> Callable[..., Any]:
    """A method of the module, jitted: (params, *inputs, **named) -> its result.

    Args:
      method: its name.
      **settings: further arguments, constants that can be hashed.
    """
    key = (method, *sorted(settings.items()))
    if key not in self._programs:
      self._programs[key] = jax.jit(
        lambda params, *inputs, **named: self.module.apply(
          {'params': params}, *inputs, method=method, **named, **settings
        )
      )
    return self._programs[key]

  @functools.cached_property
  def _programs(self) -> dict[Any, Callable[..., Any]]:
    return {}


class Family(Protocol):
  """What a family's file has: the reader of its config and its key table.

  It may also have `complete(config, names)`, which adds to a config what the
  names of the checkpoint's tensors alone tell, and `COMPLETES`, the fields that
  it adds and `save` leaves out; and `extras(config)`, which yields names and
  arrays that hold no parameter but that transformers misses.

  Attributes:
    Model: the kind of model that `load` returns.
    SECTIONS: what becomes of each key of its config.json, see `sections`.
    SKIP: patterns of the names of tensors that hold no parameter.
    KEPT: optional: patterns of those that hold none here, but have to be saved
      again as they were.
    ALIASES: optional: patterns of what older names begin with, and what that
      is in the key table, see `names.modern`. `SKIP` is about the latter.
    PREFIXES: optional: what names may begin with, or not, see `names.aligned`.
    TIES: optional: which tensors the family ties, see `names.untied`.
  """

  Model: type[Pretrained]
  SECTIONS: Mapping[str, sections.Section]
  SKIP: Sequence[str]

  def module(self, config: Mapping[str, Any], dtype: Any) -> nn.Module:
    """The module that a config.json describes, computing in `dtype`."""

  def inputs(self, config: Mapping[str, Any]) -> Batch | Any:
    """Shapes of the module's first argument, of one example."""

  def rules(self, config: Mapping[str, Any]) -> list[keys.Rule]:
    """The key table, one rule a parameter."""


def image_settings(files: Mapping[str, bytes]) -> dict[str, Any]:
  """What a model's files say of preparing pictures; {} if there is nothing."""
  if PREPROCESSOR in files:
    return configs.parsed(files[PREPROCESSOR], PREPROCESSOR)
  given = configs.parsed(files.get(PROCESSOR, b'{}'), PROCESSOR)
  return given.get('image_processor') or {}


def padded(
  rows: Sequence[Sequence[int]],
  pad_id: int,
  *,
  length: int = 0,
  step: int = 1,
  most: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """Rows of ids as one array [B, T] int32, and its mask [B, T].

  Args:
    rows: of any lengths.
    pad_id: fills up on the right.
    length: T at least.
    step: T is a multiple of it, so that few lengths are compiled.
    most: T at most, unless a row is longer; None for any.
  """
  longest = max([1, length, *map(len, rows)])
  full = -(-longest // step) * step
  if most is not None:
    full = max(longest, min(full, most))
  ids = np.full((len(rows), full), pad_id, np.int32)
  mask = np.zeros(ids.shape, bool)
  for i, row in enumerate(rows):
    ids[i, : len(row)] = row
    mask[i, : len(row)] = True
  return ids, mask


def listed(given: Any) -> list[Any]:
  """One thing or several, as a list."""
  return list(given) if isinstance(given, list | tuple) else [given]
