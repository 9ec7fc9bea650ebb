"""What every published model has: module, parameters, config and files."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import tokenizers

from mmjax.data import images
from mmjax.errors import ConfigError
from mmjax.pretrained import (
  configs,
  keys,
  names,
  preprocess,
  processors,
  tokenizer_files,
  tokenizer_settings,
)
from mmjax.pretrained import sections as sections_lib
from mmjax.types import Array, Batch, Params

TOKENIZER = tokenizer_files.FILE
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
    cls, settings: Mapping[str, Any], file: str = preprocess.FILE
  ) -> preprocess.ImagePreprocessor:
    """How images are prepared.

    Args:
      settings: what preprocessor_config.json holds.
      file: the file that has them, for errors.
    """
    return preprocess.ImagePreprocessor.from_config(
      settings, cls.image_defaults, file=file
    )

  @functools.cached_property
  def preprocess(self) -> preprocess.ImagePreprocessor:
    """Images to arrays."""
    return self.preprocessor(*self.preparing())

  def preparing(
    self, parts: Sequence[str] = processors.IMAGES
  ) -> tuple[dict[str, Any], str]:
    """Settings of what prepares inputs, and the file that has them.

    Args:
      parts: see `processors.find`.

    Raises:
      ConfigError: if there are none, or see `processors.find`.
    """
    found = processors.find(self.files, parts)
    return found or (self.settings(preprocess.FILE), preprocess.FILE)

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
    """As published, by all of its files; it neither pads nor cuts.

    Raises:
      ConfigError: if a file is missing or broken, or they contradict each
        other.
    """
    if TOKENIZER in self.files:
      tokenizer = tokenizer_files.parsed(self.file(TOKENIZER), TOKENIZER)
    else:
      tokenizer = tokenizer_files.built(self.files, self.config)
    tokenizer_settings.apply(tokenizer, self.tokenizer_config)
    return tokenizer

  @property
  def tokenizer_config(self) -> dict[str, Any]:
    """What tokenizer_config.json holds; {} without the file."""
    file = tokenizer_settings.FILE
    return self.settings(file) if file in self.files else {}

  def file(self, name: str) -> bytes:
    """A small file of the model's folder.

    Raises:
      ConfigError: if there was none.
    """
    if name not in self.files:
      raise ConfigError(
        f"the model's folder had no {name}, which this needs; put the "
        'published one there and load again'
      )
    return self.files[name]

  def settings(self, name: str, kind: type = dict) -> Any:
    """What a small JSON file of the model's folder holds.

    Raises:
      ConfigError: if there was none, or it is broken, see `configs.parsed`.
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


@dataclasses.dataclass(frozen=True)
class Family:
  """How models of one kind are read from, and written to, Hugging Face folders.

  Attributes:
    model: class of the model that `load` returns.
    sections: what becomes of each key of config.json, in `sections`.
    module: (config, dtype) -> the module that a config.json describes,
      computing in `dtype`.
    inputs: config -> shapes of the module's first argument, of one example.
    rules: config -> the key table, one rule a parameter.
    skip: patterns of the names of tensors that hold no parameter.
    kept: patterns of tensors that hold no parameter here, but are saved again
      as they were.
    aliases: patterns of prefixes in older files, and their replacements in the
      key table, in `names.modern`. `skip` is about the latter.
    prefixes: prefixes that names may have or not, in `names.aligned`.
    ties: tensors that the family ties, in `names.untied`.
    unused: by each class of transformers, patterns of tensors that its other
      classes have and it does not read, in `names.used`.
    complete: (config, names of tensors) -> the config with the fields that only
      the names tell apart; None if there are none.
    completes: names of these fields, which `save` leaves out.
    extras: config -> (name, array) of tensors that hold no parameter but that
      transformers misses; None if there are none.
  """

  model: type[Pretrained]
  sections: Mapping[str, sections_lib.Section]
  module: Callable[[Mapping[str, Any], Any], nn.Module]
  inputs: Callable[[Mapping[str, Any]], Batch | Any]
  rules: Callable[[Mapping[str, Any]], list[keys.Rule]]
  skip: Sequence[str] = ()
  kept: Sequence[str] = ()
  aliases: Sequence[tuple[str, str]] = ()
  prefixes: Sequence[str] = ()
  ties: Sequence[names.Tie] = ()
  unused: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
  complete: (
    Callable[[Mapping[str, Any], Collection[str]], dict[str, Any]] | None
  ) = None
  completes: Sequence[str] = ()
  extras: (
    Callable[[Mapping[str, Any]], Iterator[tuple[str, np.ndarray]]] | None
  ) = None

  @property
  def ignored(self) -> tuple[str, ...]:
    """Patterns of all tensors that hold no parameter."""
    return (*self.skip, *self.kept)


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
