"""BLIP (Li et al. 2022), as Hugging Face publishes it.

The `architectures` of config.json say what a checkpoint does: write captions,
answer questions, or match images with texts.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import decoders, encoders, models
from mmjax.pretrained import (
  base,
  configs,
  forms,
  image_text_models,
  keys,
  names,
  sections,
)
from mmjax.types import Batch

# Buffers that some versions of transformers saved.
SKIP = (r'.*\.position_ids',)
_HEAD = 'text_decoder.cls.predictions'
TIES = (
  names.Tie(
    'text_decoder.bert.embeddings.word_embeddings.weight',
    f'{_HEAD}.decoder.weight',
  ),
  names.Tie(f'{_HEAD}.bias', f'{_HEAD}.decoder.bias'),
)

_CAPTIONS = 'BlipForConditionalGeneration'
_ANSWERS = 'BlipForQuestionAnswering'
_MATCHES = 'BlipForImageTextRetrieval'
_ARCHITECTURES = (_CAPTIONS, _ANSWERS, _MATCHES)
_TEXT = {
  'vocab_size': 30524,
  'hidden_size': 768,
  'intermediate_size': 3072,
  'num_hidden_layers': 12,
  'num_attention_heads': 8,
  'max_position_embeddings': 512,
  'hidden_act': 'gelu',
  'layer_norm_eps': 1e-12,
  'bos_token_id': 30522,
  'pad_token_id': 0,
  'sep_token_id': 102,
}
_VISION = {
  'hidden_size': 768,
  'intermediate_size': 3072,
  'num_hidden_layers': 12,
  'num_attention_heads': 12,
  'image_size': 384,
  'patch_size': 16,
  'hidden_act': 'gelu',
  'layer_norm_eps': 1e-5,
}
SECTIONS = {
  '': sections.Section(
    read=('image_text_hidden_size',),
    irrelevant=('label_smoothing', 'logit_scale_init_value', 'projection_dim'),
  ),
  'text_config': sections.Section(
    read=_TEXT,
    only={'is_decoder': True, 'tie_word_embeddings': True},
    irrelevant=('encoder_hidden_size', 'label_smoothing', 'projection_dim'),
  ),
  'vision_config': sections.Section(
    read=_VISION,
    only={'num_channels': 3},
    irrelevant=('projection_dim',),
  ),
}
_LAYER = f'encoder.layer.{keys.LAYER}'
_LENGTH = 2


class Model(image_text_models.PublishedImageTextModel):
  """BLIP."""

  image_defaults: ClassVar[Mapping[str, Any]] = {
    'size': {'height': 384, 'width': 384},
    'image_mean': (0.48145466, 0.4578275, 0.40821073),
    'image_std': (0.26862954, 0.26130258, 0.27577711),
  }


def module(config: Mapping[str, Any], dtype: Any = jnp.float32) -> nn.Module:
  """The model that a config.json describes, for images of any size."""
  text, vision = _sections(config)
  head = configs.architecture(config, *_ARCHITECTURES)
  tower = image_encoder(vision, dtype)
  if head == _MATCHES:
    return models.ImageTextMatcher(
      image=tower,
      text=_text_encoder(text, dtype),
      embed_dim=configs.section(config, '', {'image_text_hidden_size': 256})[
        'image_text_hidden_size'
      ],
      dtype=dtype,
    )
  return models.EncoderDecoder(
    image=tower,
    question=_text_encoder(text, dtype) if head == _ANSWERS else None,
    decoder=decoders.TextDecoder(
      embed_norm=True,
      final_norm=False,
      head_activation=configs.activation(text['hidden_act']),
      head_bias=True,
      **_text_settings(text, dtype),
    ),
    bos_id=text['bos_token_id'],
    dtype=dtype,
  )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  _, vision = _sections(config)
  side = vision['image_size']
  parts = {
    _CAPTIONS: ('text',),
    _ANSWERS: ('question', 'answer'),
    _MATCHES: ('text',),
  }[configs.architecture(config, *_ARCHITECTURES)]
  batch = {'image': jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)}
  for part in parts:
    batch[part] = jax.ShapeDtypeStruct((1, _LENGTH), jnp.int32)
    batch[f'{part}_mask'] = jax.ShapeDtypeStruct((1, _LENGTH), bool)
  return batch


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  _, vision = _sections(config)
  head = configs.architecture(config, *_ARCHITECTURES)
  image_table = keys.add_prefixes(
    image_rules(vision), 'image/', 'vision_model.'
  )
  if head == _MATCHES:
    return [
      *image_table,
      *keys.add_prefixes(_text_rules(), 'text/', 'text_encoder.'),
      *keys.dense('image_projection/projection', 'vision_proj'),
      *keys.dense('text_projection/projection', 'text_proj'),
      *keys.dense('matcher', 'itm_head'),
    ]
  question = keys.add_prefixes(_text_rules(), 'question/', 'text_encoder.')
  return [
    *image_table,
    *(question if head == _ANSWERS else []),
    *keys.add_prefixes(_text_rules(), 'decoder/', 'text_decoder.bert.'),
    *keys.dense('decoder/head_dense', f'{_HEAD}.transform.dense'),
    *keys.norm('decoder/head_norm', f'{_HEAD}.transform.LayerNorm'),
    keys.Rule('decoder/logit_bias', f'{_HEAD}.bias'),
  ]


def image_encoder(vision: Mapping[str, Any], dtype: Any) -> encoders.ViT:
  side = vision['image_size'] // vision['patch_size']
  return encoders.ViT(
    patch_size=vision['patch_size'],
    width=vision['hidden_size'],
    depth=vision['num_hidden_layers'],
    num_heads=vision['num_attention_heads'],
    mlp_dim=vision['intermediate_size'],
    position_grid=(side, side),
    class_token=True,
    pooling='first',
    ragged=True,
    block={
      'activation': configs.activation(vision['hidden_act']),
      'norm_epsilon': vision['layer_norm_eps'],
    },
    dtype=dtype,
  )


def _text_encoder(text: Mapping[str, Any], dtype: Any) -> encoders.Transformer:
  """The text encoder, with cross-attention to an image if there is one."""
  return encoders.Transformer(
    cross_attention=True,
    pooling='first',
    embed_norm=True,
    final_norm=False,
    **_text_settings(text, dtype),
  )


def _text_settings(text: Mapping[str, Any], dtype: Any) -> dict[str, Any]:
  return {
    'vocab_size': text['vocab_size'],
    'width': text['hidden_size'],
    'depth': text['num_hidden_layers'],
    'num_heads': text['num_attention_heads'],
    'mlp_dim': text['intermediate_size'],
    'max_length': text['max_position_embeddings'],
    'block': {
      'norm_position': 'post',
      'activation': configs.activation(text['hidden_act']),
      'norm_epsilon': text['layer_norm_eps'],
    },
    'dtype': dtype,
  }


def image_rules(vision: Mapping[str, Any]) -> list[keys.Rule]:
  ours, theirs = 'blocks/layers', f'encoder.layers.{keys.LAYER}'
  rules = [
    keys.Rule(
      'patches/projection/kernel',
      'embeddings.patch_embedding.weight',
      forms.Patches(vision['patch_size']),
    ),
    keys.Rule('patches/projection/bias', 'embeddings.patch_embedding.bias'),
    keys.Rule(
      'patches/class_token', 'embeddings.class_embedding', forms.Lead()
    ),
    keys.Rule(
      'patches/positions_table', 'embeddings.position_embedding', forms.Lead()
    ),
    *keys.norm(f'{ours}/attention_norm', f'{theirs}.layer_norm1'),
    *keys.norm(f'{ours}/mlp_norm', f'{theirs}.layer_norm2'),
    *keys.dense(
      f'{ours}/attention/out', f'{theirs}.self_attn.projection', inputs=2
    ),
    *keys.dense(f'{ours}/mlp/up', f'{theirs}.mlp.fc1'),
    *keys.dense(f'{ours}/mlp/down', f'{theirs}.mlp.fc2'),
    *keys.norm('last_norm', 'post_layernorm'),
  ]
  packed = f'{theirs}.self_attn.qkv'
  for i, name in enumerate(('query', 'key', 'value')):
    weight, bias = forms.Linear(), forms.Same(flat=True)
    part = f'{ours}/attention/{name}'
    rules += [
      keys.Rule(f'{part}/kernel', f'{packed}.weight', forms.Part(i, 3, weight)),
      keys.Rule(f'{part}/bias', f'{packed}.bias', forms.Part(i, 3, bias)),
    ]
  return rules


def _text_rules() -> list[keys.Rule]:
  ours = 'blocks/layers'
  rules = [
    keys.Rule('words/table/embedding', 'embeddings.word_embeddings.weight'),
    keys.Rule('words/position_table', 'embeddings.position_embeddings.weight'),
    *keys.norm('initial_norm', 'embeddings.LayerNorm'),
    *keys.dense(f'{ours}/mlp/up', f'{_LAYER}.intermediate.dense'),
    *keys.dense(f'{ours}/mlp/down', f'{_LAYER}.output.dense'),
    *keys.norm(f'{ours}/mlp_norm', f'{_LAYER}.output.LayerNorm'),
  ]
  for mine, their in (
    ('attention', 'attention'),
    ('cross_attention', 'crossattention'),
  ):
    theirs = f'{_LAYER}.{their}'
    rules += [
      *keys.attention(
        f'{ours}/{mine}',
        theirs,
        {
          'query': 'self.query',
          'key': 'self.key',
          'value': 'self.value',
          'out': 'output.dense',
        },
      ),
      *keys.norm(f'{ours}/{mine}_norm', f'{theirs}.output.LayerNorm'),
    ]
  return rules


def _sections(config: Mapping[str, Any]) -> tuple[dict, dict]:
  return (
    configs.section(config, 'text_config', _TEXT),
    configs.section(config, 'vision_config', _VISION),
  )


FAMILY = base.Family(
  model_class=Model,
  sections=SECTIONS,
  build_module=module,
  inputs=inputs,
  rules=rules,
  skip=SKIP,
  ties=TIES,
)
