"""Janus and Janus-Pro (Wu et al. 2024; Chen et al. 2025), of Hugging Face."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
import PIL.Image

from mmjax import decoders, encoders, models
from mmjax import nn as mnn
from mmjax.data import images as image_files
from mmjax.errors import ConfigError
from mmjax.pretrained import (
  base,
  configs,
  interleaved,
  janus_vqvae,
  keys,
  language_models,
  llama,
  llamas,
  preprocess,
  sections,
  siglip,
  towers,
  vision_language,
)
from mmjax.types import Batch

SKIP = (*siglip.SKIP, *llamas.SKIP)

_DEFAULTS = {'image_token_id': 100581, 'tie_word_embeddings': True}
_VISION = {
  'hidden_size': 1024,
  'num_hidden_layers': 24,
  'num_attention_heads': 16,
  'num_channels': 3,
  'image_size': 384,
  'patch_size': 16,
  'hidden_act': 'gelu',
  'layer_norm_eps': 1e-6,
  'mlp_ratio': 4.0,
  'attention_bias': True,
  'projection_dim': 2048,
  'num_image_tokens': 576,
}
_CODES = {
  'embed_dim': 8,
  'hidden_act': 'gelu',
  'projection_dim': 2048,
  'image_token_embed_dim': 2048,
}
SECTIONS = {
  '': sections.Section(read=_DEFAULTS),
  'text_config': llama.SECTIONS[''].join(
    sections.Section(only={'model_type': 'llama'})
  ),
  'vision_config': sections.Section(
    read=_VISION,
    only={'model_type': 'janus_vision_model', 'depth': 2, 'use_qk_norm': False},
    irrelevant=('hidden_dropout_rate', 'projection_dropout'),
  ),
  'vq_config': janus_vqvae.SECTIONS[''].join(
    sections.Section(
      read=_CODES,
      only={'model_type': 'janus_vqgan', 'num_hidden_layers': 2},
    )
  ),
}
PREPROCESS = preprocess.SECTION.join(
  sections.Section(
    read=('min_size',),
    only={'do_resize': True},
    # transformers makes it of image_mean.
    irrelevant=('background_color',),
  )
)
# Attributes of the tokenizer, and the published tokens.
_TOKENS = {
  'image_token': '<image_placeholder>',
  'boi_token': '<begin_of_image>',
  'eoi_token': '<end_of_image>',
}


@dataclasses.dataclass(frozen=True)
class SquarePreprocessor(preprocess.ImagePreprocessor):
  """Resizes the longer side, pads to a square of the mean color, normalises.

  Attributes:
    least: smallest length of the shorter side.
  """

  least: int = 14

  def __call__(self, image: Any) -> np.ndarray:
    """Preprocesses one image, see `ImagePreprocessor`."""
    if not isinstance(image, PIL.Image.Image):
      image = PIL.Image.fromarray(np.asarray(image))
    image = image_files.to_rgb(image)
    side = self.size[0]
    scale = side / max(image.size)
    sides = [max(round(length * scale), self.least) for length in image.size]
    image = image.resize(sides, PIL.Image.Resampling(self.resample))
    mean = np.broadcast_to(self.mean, 3)
    color = tuple(int(value * 255) for value in mean)
    square = PIL.Image.new('RGB', (side, side), color)
    square.paste(image, tuple((side - length) // 2 for length in sides))
    return super().__call__(square)


class Model(vision_language.PublishedVisionLanguage):
  """Janus; `<image_placeholder>` in a prompt is that of an image.

  It writes about images as other vision-language models do, and `draw`s.
  """

  image_defaults: ClassVar[Mapping[str, Any]] = {
    'image_mean': (0.48145466, 0.4578275, 0.40821073),
    'image_std': (0.26862954, 0.26130258, 0.27577711),
    'size': {'height': 384, 'width': 384},
    'min_size': 14,
    'do_pad': True,
  }

  @classmethod
  def make_preprocessor(
    cls, settings: Mapping[str, Any], file: str = preprocess.FILE
  ) -> SquarePreprocessor:
    """Makes the preprocessor that pads images to squares.

    Raises:
      ConfigError: for a setting that mmjax does not support.
    """
    plain = preprocess.ImagePreprocessor.from_config(
      settings, cls.image_defaults, PREPROCESS, file
    )
    whole = {**cls.image_defaults, **settings}
    least, size = whole['min_size'], plain.size
    is_square = size is not None and size[0] == size[1] and plain.mean != (0.0,)
    if not is_square or not whole['do_pad']:
      raise ConfigError(
        f'{file}: size is {whole["size"]}, do_pad {whole["do_pad"]}; mmjax '
        'pads the images of Janus to squares and normalises them'
      )
    if type(least) is not int or not 0 < least <= size[0]:
      raise ConfigError(
        f'{file}: min_size is {least!r}; mmjax reads integers from 1 to the '
        f'size, {size[0]}'
      )
    fields = dataclasses.fields(preprocess.ImagePreprocessor)
    values = {field.name: getattr(plain, field.name) for field in fields}
    return SquarePreprocessor(**values, least=least)

  def vision_config(self) -> Mapping[str, Any]:
    """The config of the vision encoder, with defaults filled in."""
    return _sections(self.config)[1]

  @classmethod
  def read_expansion(
    cls,
    config: Mapping[str, Any],
    tokenizer_config: Mapping[str, Any],
    find_token: Callable[[int], str | None],
  ) -> interleaved.PlaceholderExpansion:
    """The placeholder between the tokens that begin and end an image."""
    del config, find_token
    begin, image, end = (
      _find_token(tokenizer_config, f'{name}_token')
      for name in ('boi', 'image', 'eoi')
    )
    return interleaved.PlaceholderExpansion(image, (begin, image, end))

  def draw(
    self,
    prompts: str | Sequence[str],
    *,
    guidance: float = 5.0,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int | Sequence[int] = 0,
  ) -> np.ndarray:
    """Draws an image of each prompt.

    Args:
      prompts: the exact texts that the model reads, one or several; the token
        that begins an image is added.
      guidance: factor of classifier-free guidance; 1 for none.
      temperature: temperature of sampling; 0 for the likeliest tokens.
      top_k: number of likeliest tokens to sample from; 0 for all.
      top_p: least probability that the tokens to sample from have together.
      seed: seed of sampling, or one for each prompt.

    Returns:
      uint8 [N, H, W, 3].

    Raises:
      ConfigError: for guidance below 0, or another number of seeds.
    """
    if guidance < 0:
      raise ConfigError(f'guidance={guidance} is not legal; use 0 or more')
    begin = _find_token(self.tokenizer_config, 'boi_token')
    rows = self.tokenize_rows([text + begin for text in base.as_list(prompts)])
    ids, mask = base.pad_rows(
      rows, self.pad_id, multiple_of=language_models.PAD_MULTIPLE
    )
    side = _find_side(self.vision_config())
    drawn = self.jit_method(
      'write_tokens',
      number=side**2,
      guidance=float(guidance),
      temperature=float(temperature),
      top_k=top_k,
      top_p=float(top_p),
      pad_id=self.pad_id,
    )(
      self.params,
      {'text': jnp.asarray(ids), 'text_mask': jnp.asarray(mask)},
      rng=decoders.make_keys(seed),
    )
    images = self.jit_method('decode_tokens')(
      self.params, drawn.reshape(-1, side, side)
    )
    mean, std = self.preprocessor.mean, self.preprocessor.std
    pixels = np.asarray(images) * np.float32(std) + np.float32(mean)
    return (pixels.clip(0, 1) * 255).astype(np.uint8)


def _find_token(config: Mapping[str, Any], name: str) -> str:
  """A token by the name of the tokenizer's attribute."""
  extra = config.get('extra_special_tokens')
  extra = extra if isinstance(extra, Mapping) else {}
  return config.get(name) or extra.get(name) or _TOKENS[name]


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.InterleavedVisionLanguage:
  """The model that a config.json describes.

  Raises:
    ConfigError: for parts whose widths differ, or another number of tokens
      than patches.
  """
  configs.architecture(config, 'JanusForConditionalGeneration')
  both, vision, codes, text = _sections(config)
  width = text['hidden_size']
  _check_widths(width, vision, codes)
  autoencoder = janus_vqvae.module(config.get('vq_config') or {}, dtype)
  return models.InterleavedVisionLanguage(
    vision=_image_encoder(vision, dtype),
    projector=mnn.Mlp(
      width,
      width,
      activation=configs.activation(vision['hidden_act']),
      dtype=dtype,
    ),
    decoder=llama.decoder(text, dtype),
    placeholders=(both['image_token_id'],),
    image_codes=models.TokenCodes(
      width,
      width,
      autoencoder.codebook.size,
      codes['embed_dim'],
      configs.activation(codes['hidden_act']),
      dtype=dtype,
    ),
    autoencoder=autoencoder,
  )


def _image_encoder(vision: Mapping[str, Any], dtype: Any) -> encoders.ViT:
  hidden = int(vision['hidden_size'] * vision['mlp_ratio'])
  settings = towers.settings({**vision, 'intermediate_size': hidden}, dtype)
  has_bias = True if vision['attention_bias'] else ('out',)
  settings['block'] = {**settings['block'], 'attention_bias': has_bias}
  return encoders.ViT(
    patch_size=vision['patch_size'], pooling='mean', ragged=True, **settings
  )


def _check_widths(
  width: int, vision: Mapping[str, Any], codes: Mapping[str, Any]
) -> None:
  for part, section, name in (
    ('vision_config', vision, 'projection_dim'),
    ('vq_config', codes, 'projection_dim'),
    ('vq_config', codes, 'image_token_embed_dim'),
  ):
    if section[name] != width:
      raise ConfigError(
        f'config.json: {part}.{name} is {section[name]}, but '
        f'text_config.hidden_size is {width}; mmjax reads only equal ones'
      )
  number = _find_side(vision) ** 2
  if vision['num_image_tokens'] != number:
    raise ConfigError(
      'config.json: vision_config.num_image_tokens is '
      f'{vision["num_image_tokens"]}, but an image has {number} patches'
    )


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  return vision_language.inputs(_sections(config)[1])


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table."""
  _, vision, _, text = _sections(config)
  theirs, codes = 'model.aligner', 'model.generation'
  decoder = llamas.put_under_model(llama.decoder_rules(text))
  return [
    *keys.add_prefixes(_image_rules(vision), 'vision/', 'model.vision_model.'),
    *keys.dense('projector/up', f'{theirs}.fc1'),
    *keys.dense('projector/down', f'{theirs}.hidden_layers.0'),
    *keys.add_prefixes(
      janus_vqvae.rules(config.get('vq_config') or {}),
      'autoencoder/',
      'model.vqmodel.',
    ),
    keys.Rule('image_codes/table/embedding', f'{codes}_embeddings.weight'),
    *keys.dense('image_codes/projector/up', f'{codes}_aligner.fc1'),
    *keys.dense(
      'image_codes/projector/down', f'{codes}_aligner.hidden_layers.0'
    ),
    *keys.dense('image_codes/head/up', f'{codes}_head.proj_out'),
    *keys.dense('image_codes/head/down', f'{codes}_head.vision_head'),
    *keys.add_prefixes(decoder, 'decoder/', ''),
  ]


def _image_rules(vision: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table of the image tower, without prefixes."""
  table = [
    *towers.image_rules(vision['patch_size']),
    keys.Rule('patches/projection/bias', 'embeddings.patch_embedding.bias'),
  ]
  without = () if vision['attention_bias'] else ('query', 'key', 'value')
  lacking = tuple(f'attention/{name}/bias' for name in without)
  return [
    dataclasses.replace(
      rule, theirs=rule.theirs.replace('.out_proj.', '.projection_layer.')
    )
    for rule in table
    if not rule.ours.endswith(lacking)
  ]


def _find_side(vision: Mapping[str, Any]) -> int:
  return vision['image_size'] // vision['patch_size']


def _sections(config: Mapping[str, Any]) -> tuple[dict, dict, dict, dict]:
  both = configs.section(config, '', _DEFAULTS)
  text = dict(config.get('text_config') or {})
  text['tie_word_embeddings'] = both['tie_word_embeddings']
  return (
    both,
    configs.section(config, 'vision_config', _VISION),
    configs.section(config, 'vq_config', _CODES),
    text | configs.section(text, '', llama.DEFAULTS),
  )


FAMILY = base.Family(
  model_class=Model,
  sections=SECTIONS,
  build_module=module,
  inputs=inputs,
  rules=rules,
  skip=SKIP,
  ties=llamas.TIES_UNDER_MODEL,
)
