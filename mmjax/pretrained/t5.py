"""T5 (Raffel et al. 2020), its version 1.1 and Flan-T5, by Hugging Face."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmjax import decoders, encoders, models
from mmjax.errors import ConfigError
from mmjax.pretrained import (
  base,
  configs,
  keys,
  language_models,
  names,
  sections,
  text_encoders,
)
from mmjax.types import Batch

_SHARED = 'shared.weight'
# A table of positions that nothing uses.
SKIP = (
  r'decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\..*',
)
# Where config.json does not say that it is separate, only the tensors show
# whether there is an output matrix: transformers 5 writes that it is tied even
# if it is not.
TIES = (
  names.Tie(_SHARED, 'encoder.embed_tokens.weight'),
  names.Tie(_SHARED, 'decoder.embed_tokens.weight'),
  names.Tie(_SHARED, 'lm_head.weight', {'separate_head': True}),
)
COMPLETES = ('separate_head',)

UNUSED = {
  'T5ForConditionalGeneration': (),
  'T5Model': (),  # All of the former, where the output matrix is tied.
  'T5EncoderModel': (r'decoder\..*', r'lm_head\.weight'),
}
DEFAULTS = {
  'vocab_size': 32128,
  'd_model': 512,
  'd_kv': 64,
  'd_ff': 2048,
  'num_layers': 6,
  'num_decoder_layers': None,
  'num_heads': 8,
  'relative_attention_num_buckets': 32,
  'relative_attention_max_distance': 128,
  'layer_norm_epsilon': 1e-6,
  'feed_forward_proj': 'relu',
  'n_positions': 512,
  'decoder_start_token_id': 0,
  'separate_head': False,
}
SECTIONS = {
  '': sections.Section(
    read=(
      *DEFAULTS,
      'dense_act_fn',
      'is_gated_act',
      'scale_decoder_outputs',
      'tie_word_embeddings',
    ),
    irrelevant=('dropout_rate',),
    aliases={
      'head_dim': 'd_kv',
      'hidden_size': 'd_model',
      'num_attention_heads': 'num_heads',
      'num_hidden_layers': 'num_layers',
    },
  )
}
_ATTENTION = {'query': 'q', 'key': 'k', 'value': 'v', 'out': 'o'}


class Model(
  text_encoders.PublishedTextEncoder, language_models.PublishedWriter
):
  """T5, for texts of any length, since positions are relative."""

  @property
  def max_text_tokens(self) -> int | None:
    """Largest number of tokens of a text; None unless a sentence encoder."""
    return self._limit_text_tokens(None)

  def generate(
    self,
    texts: str | Sequence[str],
    *,
    max_new_tokens: int | None = None,
    seed: int | Sequence[int] = 0,
    **settings: Any,
  ) -> list[str]:
    """Generates answers to texts, with the settings of generation_config.json.

    Greedy, unless the file or an argument says otherwise.

    Args:
      texts: one text or several, with a task in front that the model knows,
        such as 'translate English to German: '.
      max_new_tokens: largest number of new tokens; None for the file's, or 64.
      seed: seed of sampling; or one for each text, so that what a text gets
        does not depend on the others.
      **settings: arguments that override the file's: `temperature` (0 is
        greedy), `top_k`, `top_p`, `beam_size`, `repetition_penalty` and more of
        `mmjax.models.generation.TextGenerator.generate`.

    Returns:
      The answer to each text.

    Raises:
      ConfigError: if the checkpoint is an encoder alone, or for a setting of
        the file that mmjax refuses.
    """
    if not isinstance(self.module, models.TextToText):
      raise ConfigError(
        f'the checkpoint is a {self.config.get("architectures")}, which writes '
        'nothing; open a T5ForConditionalGeneration'
      )
    ids, mask = self.tokenize(texts)
    arguments = {'text_kind': 'answer', **settings}
    program = self.jit_method(
      'generate', **self.generation_arguments(max_new_tokens, 1, arguments)
    )
    # The file's start id may differ from that of config.json.
    start = self.special_id('decoder_start_token_id')
    start = self.module.bos_id if start is None else start
    batch = {
      'question': ids,
      'question_mask': mask,
      'decoder_prompt': jnp.full((len(ids), 1), start, jnp.int32),
      'decoder_prompt_mask': jnp.ones((len(ids), 1), bool),
    }
    written = program(self.params, batch, rng=decoders.make_keys(seed))
    return self.decode([[]] * len(np.asarray(ids)), written)


def module(config: Mapping[str, Any], dtype: Any = jnp.float32) -> nn.Module:
  """A `TextToText`, or a `Transformer` for an encoder alone."""
  values = read(config)
  if not _has_decoder(config):
    return encoder(values, dtype)
  return models.TextToText(
    encoder=encoder(values, dtype),
    decoder=decoder(config, values, dtype),
    bos_id=values['decoder_start_token_id'],
  )


def encoder(values: Mapping[str, Any], dtype: Any) -> encoders.Transformer:
  """The encoder; `values` has the fields of `DEFAULTS`."""
  return encoders.Transformer(
    depth=values['num_layers'], pooling='mean', **_settings(values, dtype)
  )


def decoder(
  config: Mapping[str, Any], values: Mapping[str, Any], dtype: Any
) -> decoders.TextDecoder:
  """The decoder.

  Args:
    config: all of config.json.
    values: the fields of `DEFAULTS`.
    dtype: type of the computation.
  """
  tied = config.get('tie_word_embeddings') is not False
  scaled = config.get('scale_decoder_outputs', tied)
  return decoders.TextDecoder(
    depth=_decoder_depth(values),
    tied=not values['separate_head'],
    head_scale=values['d_model'] ** -0.5 if scaled else 1.0,
    **_settings(values, dtype),
  )


def inputs(config: Mapping[str, Any]) -> Batch | Any:
  """Shapes of one example."""
  ids = jax.ShapeDtypeStruct((1, 4), jnp.int32)
  return {'question': ids, 'answer': ids} if _has_decoder(config) else ids


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  values = read(config)
  if not _has_decoder(config):
    return [
      keys.Rule('words/table/embedding', _SHARED),
      *_half_rules('', 'encoder', values, ('attention', 'mlp')),
    ]
  return both_rules(values)


def both_rules(values: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table of encoder and decoder."""
  crossing = ('attention', 'cross_attention', 'mlp')
  out = [
    keys.Rule('decoder/words/table/embedding', _SHARED),
    *_half_rules('encoder/', 'encoder', values, ('attention', 'mlp')),
    *_half_rules('decoder/', 'decoder', values, crossing),
  ]
  if values['separate_head']:
    out += keys.dense('decoder/head', 'lm_head', bias=False)
  return out


def read(config: Mapping[str, Any]) -> dict[str, Any]:
  """Reads the fields of `DEFAULTS`.

  Raises:
    ConfigError: for a value that mmjax doesn't know.
  """
  values = configs.section(config, '', DEFAULTS)
  theirs, gated = _feed_forward(values)
  configs.activation(theirs, 'feed_forward_proj')
  configs.refuse(config, dense_act_fn=theirs, is_gated_act=gated)
  if config.get('tie_word_embeddings') is False:
    values['separate_head'] = True
  return values


def _settings(values: Mapping[str, Any], dtype: Any) -> dict[str, Any]:
  """Settings that encoder and decoder have in common."""
  theirs, gated = _feed_forward(values)
  return {
    'vocab_size': values['vocab_size'],
    'width': values['d_model'],
    'num_heads': values['num_heads'],
    'mlp_dim': values['d_ff'],
    'max_length': values['n_positions'],
    'positions': 'none',
    'relative': {
      'buckets': values['relative_attention_num_buckets'],
      'max_distance': values['relative_attention_max_distance'],
    },
    'block': {
      'norm': 'rmsnorm',
      'norm_epsilon': values['layer_norm_epsilon'],
      'head_dim': values['d_kv'],
      'activation': configs.activation(theirs, 'feed_forward_proj'),
      'gated': gated,
      'attention_bias': False,
      'attention_scale': 1.0,
      'mlp_bias': False,
    },
    'dtype': dtype,
  }


def _half_rules(
  ours: str, theirs: str, values: Mapping[str, Any], parts: Sequence[str]
) -> list[keys.Rule]:
  """Key table of encoder or decoder; `parts` of its blocks are in order."""
  _, gated = _feed_forward(values)
  out = [
    keys.Rule(
      f'{ours}relative_positions/table',
      f'{theirs}.block.0.layer.0.SelfAttention.relative_attention_bias.weight',
    ),
    *keys.norm(f'{ours}last_norm', f'{theirs}.final_layer_norm', bias=False),
  ]
  names = {
    'attention': 'SelfAttention',
    'cross_attention': 'EncDecAttention',
    'mlp': 'DenseReluDense',
  }
  up = {'gate': 'wi_0', 'up': 'wi_1'} if gated else {'up': 'wi'}
  for i, part in enumerate(parts):
    layer = f'{theirs}.block.{keys.LAYER}.layer.{i}'
    mine = f'{ours}blocks/layers/{part}'
    out += keys.norm(f'{mine}_norm', f'{layer}.layer_norm', bias=False)
    their = f'{layer}.{names[part]}'
    if part != 'mlp':
      out += keys.attention(mine, their, _ATTENTION, bias=False)
      continue
    for name, tensor in {**up, 'down': 'wo'}.items():
      out += keys.dense(f'{mine}/{name}', f'{their}.{tensor}', bias=False)
  return out


def _feed_forward(values: Mapping[str, Any]) -> tuple[str, bool]:
  """Their name of the activation, and whether the MLP is gated."""
  projection = values['feed_forward_proj']
  *front, name = projection.split('-')
  if front not in ([], ['gated']):
    raise ConfigError(
      f'config.json: feed_forward_proj is {projection!r}; mmjax reads an '
      "activation, or one after 'gated-'"
    )
  # transformers uses the tanh approximation for this name.
  return ('gelu_new' if projection == 'gated-gelu' else name), bool(front)


def _decoder_depth(values: Mapping[str, Any]) -> int:
  depth = values['num_decoder_layers']
  return values['num_layers'] if depth is None else depth


def _has_decoder(config: Mapping[str, Any]) -> bool:
  """Whether the checkpoint has a decoder, or is an encoder alone."""
  return configs.architecture(config, *UNUSED) != 'T5EncoderModel'


FAMILY = base.Family(
  model_class=Model,
  sections=SECTIONS,
  build_module=module,
  inputs=inputs,
  rules=rules,
  unused=UNUSED,
  skip=SKIP,
  ties=TIES,
  completed_fields=COMPLETES,
)
