"""Keys of a config.json: read, refused or irrelevant.

The `SECTIONS` of a family have its own keys, by the part of the config; keys of
all families are here. Any other key is refused, since it may change what the
model computes.
"""

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from mmjax.errors import ConfigError
from mmjax.pretrained import configs, generation_keys

# Read by `configs.labels`, `configs.architecture`, `checkpoint` and others.
READ = (
  '_class_name',
  'architectures',
  'bos_token_id',
  'decoder_start_token_id',
  'dtype',
  'eos_token_id',
  'id2label',
  'model_type',
  'num_labels',
  'pad_token_id',
  'problem_type',
  'sep_token_id',
  'torch_dtype',
)
# The defaults of transformers, the only values that are read.
ONLY: dict[str, Any] = {
  'add_cross_attention': False,
  'is_decoder': False,
  'position_embedding_type': 'absolute',
  'pruned_heads': {},
  'quantization_config': None,
  'tie_encoder_decoder': False,
}
# Keys about training, speed, memory, further outputs, other tasks, or the file
# itself.
IRRELEVANT = (
  '_attn_implementation',
  '_attn_implementation_autoset',
  '_commit_hash',
  '_flash_attn_2_enabled',
  '_name_or_path',
  '_num_labels',
  '_output_attentions',
  'activation_dropout',
  'attention_dropout',
  'attention_probs_dropout_prob',
  'attn_implementation',
  'auto_map',
  'chunk_size_feed_forward',
  'classifier_dropout',
  'cross_attention_hidden_size',
  'dropout',
  'finetuning_task',
  'gradient_checkpointing',
  'hidden_dropout_prob',
  'init_std',
  'initializer_factor',
  'initializer_range',
  'is_encoder_decoder',
  'label2id',
  'layerdrop',
  'output_attentions',
  'output_hidden_states',
  'output_past',
  'output_scores',
  'prefix',
  'return_dict',
  'return_dict_in_generate',
  'task_specific_params',
  'tf_legacy_loss',
  'tie_word_embeddings',
  'tokenizer_class',
  'torchscript',
  'transformers.js_config',
  'transformers_version',
  'use_bfloat16',
  'use_cache',
)
# Rotary positions, see `configs.rotary_settings`.
ROTARY = (
  'partial_rotary_factor',
  'rope_parameters',
  'rope_scaling',
  'rope_theta',
)
# Outputs of a model that is a part of another.
BACKBONE = (
  '_out_features',
  '_out_indices',
  'apply_layernorm',
  'out_features',
  'out_indices',
  'reshape_hidden_states',
  'stage_names',
)


@dataclasses.dataclass(frozen=True)
class Section:
  """The keys of one part of a family's config.json, beside the common ones.

  `read` takes precedence over `only`, `only` over `irrelevant`, and these over
  the common keys.

  Attributes:
    read: keys that decide what the model is.
    only: key -> the only value that mmjax reads.
    irrelevant: keys that change nothing that the model computes.
    aliases: other name of a key -> its name; both must have the same value.
    optional: whether the part may be missing.
  """

  read: Collection[str] = ()
  only: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  irrelevant: Collection[str] = ()
  aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
  optional: bool = False

  def join(self, other: 'Section') -> 'Section':
    """Returns a section with the keys of both."""
    return Section(
      {*self.read, *other.read},
      {**self.only, **other.only},
      {*self.irrelevant, *other.irrelevant},
      {**self.aliases, **other.aliases},
      self.optional or other.optional,
    )

  def required_values(self) -> dict[str, Any]:
    """All keys with only one legal value, and that value."""
    out = {k: v for k, v in ONLY.items() if k not in self._own_keys()}
    return {
      **out,
      **{k: v for k, v in self.only.items() if k not in self.read},
    }

  def known_keys(self) -> set[str]:
    """All legal keys."""
    common = {*READ, *ONLY, *IRRELEVANT}
    common |= {*generation_keys.KEYS, *generation_keys.IRRELEVANT}
    return common | self._own_keys() | set(self.aliases)

  def _own_keys(self) -> set[str]:
    return {*self.read, *self.only, *self.irrelevant}


def check(config: Mapping[str, Any], sections: Mapping[str, Section]) -> None:
  """Refuses keys that are unknown, and values that are not read.

  Args:
    config: all of config.json.
    sections: part -> its section, '' for the top level. A section for a part of
      one `model_type` alone has it after a colon: 'text_config:opt'.

  Raises:
    ConfigError: for an unknown key, naming all of them, or a refused value.
  """
  unknown = []
  parts = {name.partition(':')[0] for name in sections if name}
  for part, values, section in _iterate_parts(config, sections):
    where = f'{part}.' if part else ''
    inner = parts if not part else set()
    unknown += sorted(
      f'{where}{key}' for key in set(values) - section.known_keys() - inner
    )
    configs.refuse(values, where, **section.required_values())
    for alias, name in section.aliases.items():
      if alias in values and values[alias] != values.get(name):
        raise ConfigError(
          f'config.json: {where}{alias} is {values[alias]!r}, but '
          f'{where}{name} is {values.get(name)!r}, which mmjax reads; '
          'write one value in both'
        )
  if unknown:
    raise ConfigError(
      f'config.json: mmjax does not know {", ".join(unknown)}; if they change '
      'nothing that the model computes, remove them from the file'
    )


def check_parts(
  config: Mapping[str, Any], sections: Mapping[str, Section]
) -> None:
  """Refuses a config without one of its parts.

  transformers has defaults for all parts, which no published model has.

  Args:
    config: all of config.json.
    sections: sections, as in `check`.

  Raises:
    ConfigError: naming the part.
  """
  for name, section in sections.items():
    part = name.partition(':')[0]
    older = f'{part}_dict'  # Of CLIP.
    has_part = any(config.get(key) is not None for key in (part, older))
    if part and not has_part and not section.optional:
      raise ConfigError(
        f'config.json: there is no {part}, which describes a part of the '
        'model; take the published file'
      )


def check_file(values: Mapping[str, Any], section: Section, file: str) -> None:
  """Refuses unknown keys and refused values in a file with one section.

  Args:
    values: contents of the file.
    section: its legal keys.
    file: name of the file.

  Raises:
    ConfigError: for an unknown key, or a value that is not read.
  """
  known = {*section.read, *section.only, *section.irrelevant}
  unknown = sorted(set(values) - known)
  if unknown:
    raise ConfigError(
      f'{file}: mmjax does not know {", ".join(unknown)}; if they change '
      'nothing of what the model reads, remove them from the file'
    )
  configs.refuse(values, '', file, **section.only)


def _iterate_parts(
  config: Mapping[str, Any], sections: Mapping[str, Section]
) -> Iterator[tuple[str, Mapping[str, Any], Section]]:
  """Yields name, contents and section of each part of the config."""
  for name, section in sections.items():
    part, _, kind = name.partition(':')
    values = (config.get(part) or {}) if part else config
    if not kind or values.get('model_type') in (None, kind):
      yield part, values, section
