"""Settings of sentence encoders, in the files of sentence-transformers.

Reimers and Gurevych 2019, section 3. The vectors of a text's tokens are pooled,
and may be normalised; texts may be made lower case and have a prompt in front.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from mmjax import ops
from mmjax.errors import ConfigError
from mmjax.pretrained import (
  configs,
  sections,
  sentence_dense,
  sentence_steps,
  tokenizer_settings,
)
from mmjax.types import Array

SETTINGS_SECTION = sections.Section(
  read=('do_lower_case', 'max_seq_length'),
  only={
    'document_length': None,
    'modality_config': {
      'text': {
        'method': 'forward',
        'method_output_name': 'last_hidden_state',
      }
    },
    'module_output_name': 'token_embeddings',
    'processing_kwargs': None,
    'query_expansion': None,
    'query_length': None,
    'transformer_task': 'feature-extraction',
  },
  # How padding is computed, which changes no vector.
  irrelevant=('unpad_inputs',),
)
PROMPTS_SECTION = sections.Section(
  read=('default_prompt_name', 'prompts'),
  only={'model_type': 'SentenceTransformer', 'truncate_dim': None},
  # Versions, and how to compare vectors.
  irrelevant=('__version__', 'similarity_fn_name'),
)


def _pool_first(values: Array, mask: Array) -> Array:
  first = jnp.argmax(mask, axis=1)
  return jnp.take_along_axis(values, first[:, None, None], axis=1)[:, 0]


def _pool_max(values: Array, mask: Array) -> Array:
  return jnp.max(jnp.where(mask[:, :, None], values, -jnp.inf), axis=1)


def _pool_root_mean(values: Array, mask: Array) -> Array:
  number = jnp.maximum(mask.sum(axis=1), 1)[:, None]
  return ops.mean_tokens(values, mask) * jnp.sqrt(number)


def _pool_weighted_mean(values: Array, mask: Array) -> Array:
  """Mean weighted by position, from 1 on (Muennighoff 2022)."""
  weights = mask * jnp.arange(1, mask.shape[1] + 1)[None]
  total = jnp.sum(
    jnp.where(mask[:, :, None], values, 0) * weights[..., None], 1
  )
  return total / jnp.maximum(weights.sum(axis=1), 1)[:, None]


# Older name -> name and function, in the order of concatenation.
POOLS: dict[str, tuple[str, Callable[[Array, Array], Array]]] = {
  'pooling_mode_cls_token': ('cls', _pool_first),
  'pooling_mode_max_tokens': ('max', _pool_max),
  'pooling_mode_mean_tokens': ('mean', ops.mean_tokens),
  'pooling_mode_mean_sqrt_len_tokens': (
    'mean_sqrt_len_tokens',
    _pool_root_mean,
  ),
  'pooling_mode_weightedmean_tokens': ('weightedmean', _pool_weighted_mean),
  'pooling_mode_lasttoken': ('lasttoken', ops.last_token),
}
# Inputs and outputs of a step that normalises.
NORMALIZE_SECTION = sections.Section(
  only={
    'module_input_name': 'sentence_embedding',
    'module_output_name': 'sentence_embedding',
  }
)
POOLING_SECTION = sections.Section(
  read=(*POOLS, 'include_prompt', 'pooling_mode'),
  irrelevant=('embedding_dimension', 'word_embedding_dimension'),
)


@dataclasses.dataclass(frozen=True)
class Pooling:
  """How the vectors of a text's tokens become one.

  Attributes:
    pools: functions of values [B, T, D] and mask [B, T], whose results are
      concatenated.
    normalises: whether the vector is scaled to unit length at the end.
    include_prompt: whether the tokens of a prompt are pooled too.
    layers: dense layers that follow.
  """

  pools: tuple[Callable[[Array, Array], Array], ...]
  normalises: bool
  include_prompt: bool
  layers: tuple[sentence_dense.Dense, ...] = ()

  @property
  def of_tower(self) -> str | None:
    """The `pooling` of an encoder that is the same; None if there is none.

    The dense layers and the normalisation that follow are not in it.
    """
    names = {
      _pool_first: 'first',
      ops.mean_tokens: 'mean',
      ops.last_token: 'last',
    }
    return names.get(self.pools[0]) if len(self.pools) == 1 else None

  def __call__(self, values: Array, mask: Array, prompt: int = 0) -> Array:
    """Pools values [B, T, D] with a mask [B, T] to vectors [B, D].

    Args:
      values: vectors of the tokens.
      mask: True for tokens, False for padding.
      prompt: number of tokens of the prompt at the beginning of each text.
    """
    if not self.include_prompt:
      mask = mask & (jnp.arange(mask.shape[1]) >= prompt)[None]
    vectors = jnp.concatenate([p(values, mask) for p in self.pools], axis=-1)
    for layer in self.layers:
      vectors = layer(vectors)
    return ops.unit_norm(vectors) if self.normalises else vectors


def is_encoder(files: Mapping[str, bytes]) -> bool:
  """Whether a folder's small files are those of a sentence encoder."""
  return sentence_steps.FILE in files


def uses_lower_case(files: Mapping[str, bytes]) -> bool:
  """Whether texts are made lower case before the tokenizer."""
  return bool(_settings(files).get('do_lower_case'))


def max_text_tokens(files: Mapping[str, bytes]) -> int | None:
  """Largest number of tokens of a text; None if the files don't say."""
  length = _settings(files).get('max_seq_length')
  if length is None and is_encoder(files) and tokenizer_settings.FILE in files:
    file = tokenizer_settings.FILE
    length = configs.parse(files[file], file).get('model_max_length')
  return length


def find_prompt(
  files: Mapping[str, bytes], text: str | None, name: str | None
) -> str:
  """Finds the prompt in front of each text.

  Args:
    files: small files of a model's folder, by name.
    text: the prompt itself, '' for none; it takes precedence.
    name: name of one of the model's prompts; None for the default.

  Raises:
    ConfigError: if the model has no prompt of this name.
  """
  if text is not None:
    return text
  file = sentence_steps.PROMPTS
  settings = configs.parse(files.get(file, b'{}'), file)
  sections.check_file(settings, PROMPTS_SECTION, file)
  prompts = settings.get('prompts') or {}
  name = settings.get('default_prompt_name') if name is None else name
  if name is None:
    return ''
  if not isinstance(prompts.get(name), str):
    raise ConfigError(
      f'{file} has no prompt {name!r}; it has {sorted(prompts)}'
    )
  return prompts[name]


def read_pooling(files: Mapping[str, bytes]) -> Pooling:
  """Reads the pooling of a sentence encoder from its modules.json.

  Raises:
    ConfigError: for steps that mmjax doesn't know, or in another order.
  """
  _, pool, *last = sentence_steps.parse(files[sentence_steps.FILE])
  file = pool.config
  if file not in files:
    raise ConfigError(
      f"the model's folder had no {file}, which {sentence_steps.FILE} names; "
      'put the published one there and load again'
    )
  config = configs.parse(files[file], file)
  sections.check_file(config, POOLING_SECTION, file)
  for step in last:
    if step.kind == sentence_steps.NORMALIZE and step.config in files:
      settings = configs.parse(files[step.config], step.config)
      sections.check_file(settings, NORMALIZE_SECTION, step.config)
  return Pooling(
    _pools(config, file),
    last[-1:] != [] and last[-1].kind == sentence_steps.NORMALIZE,
    config.get('include_prompt') is not False,
    tuple(
      sentence_dense.read(files, step)
      for step in last
      if step.kind == sentence_steps.DENSE
    ),
  )


def _pools(
  config: Mapping[str, Any], file: str
) -> tuple[Callable[[Array, Array], Array], ...]:
  known = dict(POOLS.values())
  modes = config.get('pooling_mode')
  if modes is None:
    modes = [new for old, (new, _) in POOLS.items() if config.get(old)]
  modes = [modes] if isinstance(modes, str) else modes or ['mean']
  if not set(modes) <= set(known):
    raise ConfigError(
      f'{file}: pooling_mode is {modes}; mmjax knows {", ".join(known)}'
    )
  return tuple(known[mode] for mode in modes)


def _settings(files: Mapping[str, bytes]) -> dict[str, Any]:
  file = sentence_steps.SETTINGS
  settings = configs.parse(files.get(file, b'{}'), file)
  sections.check_file(settings, SETTINGS_SECTION, file)
  return settings
