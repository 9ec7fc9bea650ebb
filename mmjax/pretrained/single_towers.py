"""One tower of CLIP or SigLIP, published alone."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import encoders, models
from mmjax.data import tokenizers
from mmjax.errors import ConfigError
from mmjax.pretrained import (
  base,
  classifiers,
  clip,
  configs,
  keys,
  sections,
  siglip,
  text_encoders,
  tokenizer_settings,
  towers,
)
from mmjax.types import Array, Batch

# Tensors of the whole model that a tower does not have.
_SCALE = r'logit_(scale|bias)'
_NO_TEXTS = (r'text_model\..*', r'text_projection\.weight', _SCALE)
_NO_IMAGES = (r'vision_model\..*', r'visual_projection\.weight', _SCALE)


class ClipImages(classifiers.PublishedImageEncoder):
  """CLIP's image tower; the pooled vector is the normalised class token.

  The projection of a `CLIPVisionModelWithProjection` into the space of texts is
  not applied, but `save` keeps it.
  """

  image_defaults = clip.Model.image_defaults


class SiglipImages(classifiers.PublishedImageEncoder):
  """SigLIP's image tower; the pooled vector is that of attention pooling."""

  image_defaults = siglip.Model.image_defaults


class ClipTexts(text_encoders.PublishedTextEncoder):
  """CLIP's text tower; the pooled vector is the normalised end token.

  The projection into the space of images is not applied, see `ClipImages`.
  """

  @property
  def max_text_tokens(self) -> int | None:
    """Largest number of tokens of a text."""
    return self.module.max_length


class SiglipTexts(ClipTexts):
  """SigLIP's text tower, which attends to padding; `pooled` is the head's."""

  def tokenize(self, texts: str | Sequence[str]) -> tuple[Array, Array]:
    """Tokenizes texts to ids [B, T] and a mask [B, T], T always the largest."""
    self.tokenizer.enable_truncation(self.module.max_length)
    ids, mask = base.pad_rows(
      self.tokenize_rows(texts),
      self._pad_id,
      length=self.module.max_length,
    )
    return jnp.asarray(ids), jnp.asarray(mask)

  @property
  def _pad_id(self) -> int:
    """Id of the padding of the tokenizer, or else of config.json."""
    file = tokenizer_settings.FILE
    settings = self.settings(file) if file in self.files else {}
    token = tokenizers.find_named(self.tokenizer, settings, 'pad')
    if token is not None:
      return self.tokenizer.token_to_id(token)
    return self.config.get('pad_token_id', 1)


class _ImageTower:
  """The family of an image tower, see `base.Family`."""

  PREFIXES = ('vision_model.',)
  SKIP = (r'(vision_model\.)?embeddings\.position_ids',)
  KEPT = (r'visual_projection\.weight',)

  def __init__(
    self,
    Model: type[classifiers.PublishedImageEncoder],
    architectures: Sequence[str],
    section: sections.Section,
    defaults: Mapping[str, Any],
    encoder: Callable[[Mapping[str, Any], Any], encoders.ViT],
    table: Callable[[Mapping[str, Any]], list[keys.Rule]],
  ):
    """Takes the differences between CLIP and SigLIP.

    Args:
      Model: class of the model that `load` returns.
      architectures: classes of transformers.
      section: keys of config.json.
      defaults: fields of config.json that are read, and their defaults.
      encoder: fields and dtype -> the encoder.
      table: fields -> its key table, without prefixes.
    """
    self.Model = Model
    self.SECTIONS = {'': section}
    self.UNUSED = dict.fromkeys(architectures, _NO_TEXTS)
    self._defaults = defaults
    self._encoder = encoder
    self._table = table

  def module(
    self, config: Mapping[str, Any], dtype: Any = jnp.float32
  ) -> models.Classifier:
    """The tower as an encoder without a classifier."""
    configs.architecture(config, *self.UNUSED)
    return models.Classifier(
      encoder=self._encoder(self._read(config), dtype), dtype=dtype
    )

  def inputs(self, config: Mapping[str, Any]) -> Batch:
    """Shapes of one example."""
    values = self._read(config)
    shape = (
      1,
      values['image_size'],
      values['image_size'],
      values['num_channels'],
    )
    return {'image': jax.ShapeDtypeStruct(shape, jnp.float32)}

  def rules(self, config: Mapping[str, Any]) -> list[keys.Rule]:
    """The key table."""
    table = self._table(self._read(config))
    return keys.add_prefixes(table, 'encoder/', self.PREFIXES[0])

  def _read(self, config: Mapping[str, Any]) -> dict[str, Any]:
    return configs.section(config, '', self._defaults)


class _ClipTextTower:
  """The family of CLIP's text tower, see `base.Family`."""

  Model = ClipTexts
  SECTIONS: ClassVar = {'': clip.TEXT_SECTION}
  PREFIXES = ('text_model.',)
  SKIP = (r'(text_model\.)?embeddings\.position_ids',)
  KEPT = (r'text_projection\.weight',)
  UNUSED: ClassVar = {
    'CLIPTextModel': _NO_IMAGES,
    'CLIPTextModelWithProjection': _NO_IMAGES,
  }

  def module(
    self, config: Mapping[str, Any], dtype: Any = jnp.float32
  ) -> nn.Module:
    """A `Transformer`."""
    configs.architecture(config, *self.UNUSED)
    return clip.text_encoder(configs.section(config, '', clip.TEXT), dtype)

  def inputs(self, config: Mapping[str, Any]) -> jax.ShapeDtypeStruct:
    """Shape of one text."""
    del config
    return jax.ShapeDtypeStruct((1, 4), jnp.int32)

  def rules(self, config: Mapping[str, Any]) -> list[keys.Rule]:
    """The key table."""
    del config
    return towers.text_rules('')


class _SiglipTextTower:
  """The family of SigLIP's text tower, see `base.Family`."""

  Model = SiglipTexts
  SECTIONS: ClassVar = {'': siglip.TEXT_SECTION}
  UNUSED: ClassVar = {'SiglipTextModel': _NO_IMAGES}
  PREFIXES = ('text_model.',)
  SKIP = (r'(text_model\.)?embeddings\.position_ids',)
  KEPT = ()

  def module(
    self, config: Mapping[str, Any], dtype: Any = jnp.float32
  ) -> nn.Module:
    """A `Transformer`, whose pooler is the head.

    Raises:
      ConfigError: if the head changes the width.
    """
    configs.architecture(config, *self.UNUSED)
    values = configs.section(config, '', siglip.TEXT)
    size = config.get('projection_size')
    if size not in (None, values['hidden_size']):
      raise ConfigError(
        f'config.json: projection_size is {size}; mmjax reads only '
        f'hidden_size, {values["hidden_size"]}, in a text tower alone; load '
        'the whole SiglipModel'
      )
    return siglip.text_encoder(values, dtype, pool_activation='identity')

  def inputs(self, config: Mapping[str, Any]) -> jax.ShapeDtypeStruct:
    """Shape of one text."""
    del config
    return jax.ShapeDtypeStruct((1, 4), jnp.int32)

  def rules(self, config: Mapping[str, Any]) -> list[keys.Rule]:
    """The key table."""
    del config
    return [*towers.text_rules(''), *keys.dense('pooler', 'text_model.head')]


def _family(
  tower: _ImageTower | _ClipTextTower | _SiglipTextTower,
) -> base.Family:
  return base.Family(
    model_class=tower.Model,
    sections=tower.SECTIONS,
    build_module=tower.module,
    inputs=tower.inputs,
    rules=tower.rules,
    skip=tower.SKIP,
    kept=tower.KEPT,
    unused=tower.UNUSED,
    prefixes=tower.PREFIXES,
  )


CLIP_IMAGES = _family(
  _ImageTower(
    ClipImages,
    ('CLIPVisionModel', 'CLIPVisionModelWithProjection'),
    clip.VISION_SECTION,
    clip.VISION,
    clip.image_encoder,
    lambda values: clip.image_rules(values['patch_size']),
  )
)
SIGLIP_IMAGES = _family(
  _ImageTower(
    SiglipImages,
    ('SiglipVisionModel',),
    siglip.VISION_SECTION,
    siglip.VISION,
    siglip.image_encoder,
    siglip.image_rules,
  )
)
CLIP_TEXTS = _family(_ClipTextTower())
SIGLIP_TEXTS = _family(_SiglipTextTower())
