"""What becomes of each key of a config.json: read, refused or irrelevant.

A family has its own keys in `SECTIONS`, by the part of the config that they
stand in; what stands in any part is here. A key of neither is refused, since
nobody knows whether it changes what the model computes.
"""

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from mmjax.errors import ConfigError
from mmjax.pretrained import configs, generation_keys

# Read by `configs.labels`, `configs.architecture`, `checkpoint` and others.
READ = (
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
# The values that transformers takes where a config is silent.
ONLY: dict[str, Any] = {
  'add_cross_attention': False,
  'is_decoder': False,
  'position_embedding_type': 'absolute',
  'pruned_heads': {},
  'quantization_config': None,
  'tie_encoder_decoder': False,
}
# Of training, speed, memory, further outputs, other tasks, or the file itself.
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
# Rotary positions, see `configs.rotary`.
ROTARY = (
  'partial_rotary_factor',
  'rope_parameters',
  'rope_scaling',
  'rope_theta',
)
# Which outputs a model gives as part of another.
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

  A key is looked for in `read`, `only` and `irrelevant`, in this order, and
  then in the common ones.

  Attributes:
    read: keys that decide what the model is.
    only: by key, the one value that mmjax reads.
    irrelevant: keys that change nothing that the model computes.
    aliases: other names of keys that are read; both must say the same.
  """

  read: Collection[str] = ()
  only: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  irrelevant: Collection[str] = ()
  aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)

  def joined(self, other: 'Section') -> 'Section':
    """The keys of both."""
    return Section(
      {*self.read, *other.read},
      {**self.only, **other.only},
      {*self.irrelevant, *other.irrelevant},
      {**self.aliases, **other.aliases},
    )

  def all_only(self) -> dict[str, Any]:
    """All keys that are refused, with the value that is not."""
    out = {k: v for k, v in ONLY.items() if k not in self._own()}
    return {**out, **{k: v for k, v in self.only.items() if k not in self.read}}

  def known(self) -> set[str]:
    """All keys."""
    common = {*READ, *ONLY, *IRRELEVANT}
    common |= {*generation_keys.KEYS, *generation_keys.IRRELEVANT}
    return common | self._own() | set(self.aliases)

  def _own(self) -> set[str]:
    return {*self.read, *self.only, *self.irrelevant}


def check(config: Mapping[str, Any], sections: Mapping[str, Section]) -> None:
  """Refuses keys that are unknown, and values that are not read.

  Args:
    config: all of config.json.
    sections: by the part that they are about, '' for the top level. Where one
      is about a part of one `model_type` alone, that is behind a colon:
      'text_config:opt'.

  Raises:
    ConfigError: for such a key or value; all unknown keys are named.
  """
  unknown = []
  parts = {name.partition(':')[0] for name in sections if name}
  for part, given, section in _present(config, sections):
    where = f'{part}.' if part else ''
    inner = parts if not part else set()
    unknown += sorted(
      f'{where}{key}' for key in set(given) - section.known() - inner
    )
    configs.refuse(given, where, **section.all_only())
    for alias, name in section.aliases.items():
      if alias in given and given[alias] != given.get(name):
        raise ConfigError(
          f'config.json: {where}{alias} is {given[alias]!r}, but {where}{name} '
          f'is {given.get(name)!r}, which mmjax reads; write one value in both'
        )
  if unknown:
    raise ConfigError(
      f'config.json: mmjax does not know {", ".join(unknown)}; if they change '
      'nothing that the model computes, remove them from the file'
    )


def check_file(given: Mapping[str, Any], section: Section, file: str) -> None:
  """The same of another file, which has the keys of one section alone.

  Args:
    given: what the file holds.
    section: its keys.
    file: its name.

  Raises:
    ConfigError: for an unknown key, or a value that is not read.
  """
  known = {*section.read, *section.only, *section.irrelevant}
  unknown = sorted(set(given) - known)
  if unknown:
    raise ConfigError(
      f'{file}: mmjax does not know {", ".join(unknown)}; if they change '
      'nothing of what the model reads, remove them from the file'
    )
  configs.refuse(given, '', file, **section.only)


def _present(
  config: Mapping[str, Any], sections: Mapping[str, Section]
) -> Iterator[tuple[str, Mapping[str, Any], Section]]:
  """Name, content and keys of each part that there is."""
  for name, section in sections.items():
    part, _, kind = name.partition(':')
    given = (config.get(part) or {}) if part else config
    if not kind or given.get('model_type') in (None, kind):
      yield part, given, section
