"""A published model: its module, parameters, config and files."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import numpy as np
import tokenizers

from mmjax.data import images as image_files
from mmjax.errors import ConfigError
from mmjax.pretrained import (
  configs,
  image_sizes,
  keys,
  names,
  preprocess,
  processors,
  special_tokens,
  tokenizer_files,
  tokenizer_settings,
)
from mmjax.pretrained import sections as sections_lib
from mmjax.types import Array, Batch, Params

TOKENIZER = tokenizer_files.FILE
_WORDS = ('words', 'table', 'embedding')
# Among a model's files, but not in its folder: the tensors of `Family.kept`.
KEPT = 'kept.safetensors'


@dataclasses.dataclass(frozen=True, repr=False)
class Pretrained:
  """A published model; `module` and `params` are all that JAX code needs.

  Subclasses add the methods of each kind of model.

  Attributes:
    module: a Linen module.
    params: its parameters.
    config: the model's config.json.
    files: the folder's other small files by name, which `save` writes again.
    image_size: (height, width) of all images that the module reads, after
      preprocessing; None if it reads images of any size, or none.
    base: folder or name of the model without its adapters; '' if it has none,
      or the name is not known.
    tuned: paths of the parameters that were trained in full beside adapters.
    image_defaults: the family's defaults for preprocessor_config.json.
    lower_case: whether texts are made lower case before the tokenizer, which
      does not do so itself.
  """

  module: nn.Module
  params: Params
  config: Mapping[str, Any]
  files: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
  image_size: tuple[int, int] | None = None
  base: str = ''
  tuned: tuple[str, ...] = ()

  image_defaults: ClassVar[Mapping[str, Any]] = {}
  lower_case: ClassVar[bool] = False

  def __repr__(self) -> str:
    number = sum(leaf.size for leaf in jax.tree.leaves(self.params))
    kind = self.config.get('model_type') or self.config.get('_class_name')
    return f'<{kind}: {type(self.module).__name__}, {number:,} parameters>'

  @classmethod
  def make_preprocessor(
    cls, settings: Mapping[str, Any], file: str = preprocess.FILE
  ) -> preprocess.ImagePreprocessor:
    """Makes the preprocessor of images.

    Args:
      settings: the contents of preprocessor_config.json.
      file: the name of the file with the settings, for errors.
    """
    return preprocess.ImagePreprocessor.from_config(
      settings, cls.image_defaults, file=file
    )

  @functools.cached_property
  def preprocessor(self) -> preprocess.ImagePreprocessor:
    """The preprocessor that turns images into arrays."""
    return self.make_preprocessor(*self.find_preprocessing())

  def find_preprocessing(
    self, parts: Sequence[str] = processors.IMAGES
  ) -> tuple[dict[str, Any], str]:
    """Finds the settings of a preprocessor, and the file that has them.

    Args:
      parts: names of the preprocessor in processor_config.json.

    Raises:
      ConfigError: if there are none, a file is broken, or it has a key or
        value that mmjax refuses.
    """
    match = processors.find(self.files, parts)
    return match or (self.settings(preprocess.FILE), preprocess.FILE)

  def preprocess(self, images: Any) -> Array:
    """Preprocesses images to arrays [B, H, W, 3], the input of the module.

    Args:
      images: one or a list of Pillow images, uint8 [H, W, 3] or file paths.

    Raises:
      ConfigError: if preprocessed images have different sizes, or not those
        that the module reads.
    """
    _, file = self.find_preprocessing()
    return image_sizes.stack(
      [self.preprocessor(image_files.to_array(p)) for p in as_list(images)],
      self.module,
      self.image_size,
      file,
    )

  @functools.cached_property
  def tokenizer(self) -> tokenizers.Tokenizer:
    """The published tokenizer, without padding or truncation.

    Raises:
      ConfigError: if a file is missing or broken, or two files contradict
        each other.
    """
    if TOKENIZER in self.files:
      tokenizer = tokenizer_files.parse(self.file(TOKENIZER), TOKENIZER)
      special_tokens.add_named(tokenizer, special_tokens.read(self.files, {}))
    else:
      tokenizer = tokenizer_files.build(self.files, self.config)
    tokenizer_settings.apply(tokenizer, self.tokenizer_config)
    return tokenizer

  @property
  def tokenizer_config(self) -> dict[str, Any]:
    """The contents of tokenizer_config.json; {} without the file."""
    file = tokenizer_settings.FILE
    return self.settings(file) if file in self.files else {}

  @functools.cached_property
  def _num_vectors(self) -> int | None:
    """Number of ids that the model has vectors of; None if it reads none."""
    leaves = jax.tree_util.tree_leaves_with_path(self.params)
    return min(
      (
        leaf.shape[0]
        for path, leaf in leaves
        if tuple(key.key for key in path)[-3:] == _WORDS
      ),
      default=None,
    )

  def tokenize_rows(
    self, texts: str | Sequence[str], *, add_special_tokens: bool = True
  ) -> list[list[int]]:
    """Tokenizes texts to ids, without padding.

    Args:
      texts: one text or several.
      add_special_tokens: whether the tokenizer adds its first and last tokens.

    Raises:
      ConfigError: if the model has no vector of an id.
    """
    encodings = self.tokenizer.encode_batch(
      as_list(texts), add_special_tokens=add_special_tokens
    )
    rows = [encoding.ids for encoding in encodings]
    largest = max(itertools.chain.from_iterable(rows), default=0)
    if self._num_vectors is not None and largest >= self._num_vectors:
      raise ConfigError(
        f'the tokenizer makes the id {largest} of '
        f'{self.tokenizer.id_to_token(largest)!r}, but the model has vectors '
        f'of {self._num_vectors} ids; take both from one model, or call '
        'resize_token_embeddings of transformers and train the new vectors'
      )
    return rows

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
    """The contents of a small JSON file of the model's folder.

    Raises:
      ConfigError: if there was none, or it is broken or holds something else.
    """
    return configs.parse(self.file(name), name, kind)

  def jit_method(self, method: str, **settings: Any) -> Callable[..., Any]:
    """Jits a method of the module: (params, *inputs, **named) -> its result.

    Args:
      method: name of the method.
      **settings: further arguments: hashable constants.
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
  """How a kind of model is read from, and written to, Hugging Face folders.

  Attributes:
    model_class: class of the model that `load` returns, a `Pretrained` around
      the module and its parameters.
    sections: keys of config.json that are read, refused or irrelevant, by the
      part of the config.
    build_module: (config, dtype) -> the Linen module that a config.json
      describes, computing in `dtype`.
    inputs: config -> shapes of the module's first argument, for one example.
    rules: config -> the key table, one rule a parameter.
    skip: patterns of the names of tensors that hold no parameter.
    kept: patterns of the names of tensors that hold no parameter here, but
      are saved unchanged.
    aliases: patterns of prefixes in older files, and their replacements in the
      key table, for `names.apply_aliases`. `skip` matches the replacements.
    prefixes: prefixes that names may have or lack, for
      `names.align_prefixes`.
    ties: tensors that the family ties, for `names.resolve_ties`.
    unused: class of transformers -> patterns of tensors that it does not read
      but other classes have, for `names.drop_unused`.
    complete: (config, names of tensors) -> the config with the fields that
      follow from the names alone; None if there are none.
    completed_fields: names of these fields, which `save` leaves out.
    extras: config -> (name, array) of tensors that hold no parameter but that
      transformers expects; None if there are none.
  """

  model_class: type[Pretrained]
  sections: Mapping[str, sections_lib.Section]
  build_module: Callable[[Mapping[str, Any], Any], nn.Module]
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
  completed_fields: Sequence[str] = ()
  extras: (
    Callable[[Mapping[str, Any]], Iterator[tuple[str, np.ndarray]]] | None
  ) = None

  @property
  def ignored_patterns(self) -> tuple[str, ...]:
    """Patterns of all tensors that hold no parameter."""
    return (*self.skip, *self.kept)


def pad_rows(
  rows: Sequence[Sequence[int]],
  pad_id: int,
  *,
  length: int = 0,
  multiple_of: int = 1,
  most: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """Pads rows of ids to one array [B, T] int32; also returns its mask [B, T].

  Args:
    rows: ids of each text, of any lengths.
    pad_id: id of the padding, which is on the right.
    length: smallest T.
    multiple_of: divisor of T, so that few lengths are compiled.
    most: largest T, unless a row is longer; None for any.
  """
  longest = max([1, length, *map(len, rows)])
  full = -(-longest // multiple_of) * multiple_of
  if most is not None:
    full = max(longest, min(full, most))
  ids = np.full((len(rows), full), pad_id, np.int32)
  mask = np.zeros(ids.shape, bool)
  for i, row in enumerate(rows):
    ids[i, : len(row)] = row
    mask[i, : len(row)] = True
  return ids, mask


def as_list(value: Any) -> list[Any]:
  """Returns a list or tuple as a list, and any other value in a list."""
  return list(value) if isinstance(value, list | tuple) else [value]
