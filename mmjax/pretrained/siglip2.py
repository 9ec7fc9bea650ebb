"""SigLIP 2 for any aspect ratio, NaFlex (Tschannen et al. 2025), as published.

At a fixed resolution, SigLIP 2 is published as SigLIP.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image

from mmjax import encoders, models
from mmjax.data import images as image_files
from mmjax.data import tokenizers
from mmjax.errors import ConfigError
from mmjax.ops import packing
from mmjax.pretrained import (
  base,
  configs,
  forms,
  keys,
  preprocess,
  sections,
  siglip,
  towers,
)
from mmjax.types import Batch

SECTIONS = {
  **siglip.SECTIONS,
  'vision_config': siglip.VISION_SECTION.join(
    sections.Section(read=('num_patches',))
  ),
}
_PREPROCESSOR = {'patch_size': 16, 'max_num_patches': 256, 'resample': 2}
PREPROCESSING = preprocess.SECTION.join(sections.Section(read=_PREPROCESSOR))


class Model(siglip.Model):
  """SigLIP 2, whose images keep their aspect ratio; texts are lower case."""

  image_defaults: ClassVar[Mapping[str, Any]] = {
    'size': {},
    'image_mean': (0.5, 0.5, 0.5),
    'image_std': (0.5, 0.5, 0.5),
  }

  lower_case: ClassVar[bool] = True

  @classmethod
  def make_preprocessor(
    cls, settings: Mapping[str, Any], file: str = preprocess.FILE
  ) -> preprocess.ImagePreprocessor:
    """Makes the preprocessor of resized images."""
    return preprocess.ImagePreprocessor.from_config(
      settings, cls.image_defaults, PREPROCESSING, file
    )

  @functools.cached_property
  def tokenizer(self) -> Any:
    """The published tokenizer, in lower case and with truncation."""
    return tokenizers.add_lower_case(super().tokenizer)

  def preprocess(self, images: Any) -> encoders.ImagePatches:
    """Preprocesses images to patches, the input of the module.

    Args:
      images: one or a list of Pillow images, uint8 [H, W, 3] or file paths.
    """
    preprocessing, file = self.find_preprocessing()
    settings = configs.section(preprocessing, '', _PREPROCESSOR)
    side, number = settings['patch_size'], settings['max_num_patches']
    resample = preprocess.read_resample(settings, file)
    cut = [
      self._patches(image_files.to_array(image), side, number, resample)
      for image in base.as_list(images)
    ]
    grids = np.asarray([patches.shape[:2] for patches in cut], np.int32)
    values = np.zeros((len(cut), number, cut[0].shape[2]), np.float32)
    for row, patches in enumerate(cut):
      flat = patches.reshape(-1, patches.shape[2])
      values[row, : len(flat)] = flat
    mask = np.arange(number)[None] < grids.prod(axis=1)[:, None]
    return jax.tree.map(jnp.asarray, encoders.ImagePatches(values, mask, grids))

  def _patches(
    self, image: Any, side: int, number: int, resample: int
  ) -> np.ndarray:
    """Cuts an image into patches [rows, columns, side * side * 3]."""
    if not isinstance(image, PIL.Image.Image):
      image = PIL.Image.fromarray(np.asarray(image))
    image = image_files.to_rgb(image)
    height, width = packing.fit_tokens(image.height, image.width, side, number)
    image = image.resize((width, height), PIL.Image.Resampling(resample))
    array = self.preprocessor(image)
    rows, columns = height // side, width // side
    array = array.reshape(rows, side, columns, side, -1).swapaxes(1, 2)
    return array.reshape(rows, columns, -1)


def module(
  config: Mapping[str, Any], dtype: Any = jnp.float32
) -> models.DualEncoder:
  """The model that a config.json describes."""
  text, vision = siglip.read(config)
  side = _table_side(config)
  image = encoders.FlexibleViT(
    position_grid=(side, side),
    patch_size=vision['patch_size'],
    pooling='attention',
    **towers.settings(vision, dtype),
  )
  return siglip.dual_encoder(image, text, dtype)


def inputs(config: Mapping[str, Any]) -> Batch:
  """Shapes of one example."""
  text, vision = siglip.read(config)
  number = _table_side(config) ** 2
  values = vision['patch_size'] ** 2 * vision['num_channels']
  return {
    **towers.inputs(text, vision),
    'image': encoders.ImagePatches(
      jax.ShapeDtypeStruct((1, number, values), jnp.float32),
      jax.ShapeDtypeStruct((1, number), bool),
      jax.ShapeDtypeStruct((1, 2), jnp.int32),
    ),
  }


def rules(config: Mapping[str, Any]) -> list[keys.Rule]:
  """The key table: SigLIP's, but that patches are cut beforehand."""
  kernel = 'image/patches/projection/kernel'
  return [
    dataclasses.replace(rule, form=forms.Linear())
    if rule.ours == kernel
    else rule
    for rule in siglip.rules(config)
  ]


def _table_side(config: Mapping[str, Any]) -> int:
  number = configs.section(config, 'vision_config', {'num_patches': 256})[
    'num_patches'
  ]
  side = math.isqrt(number)
  if side**2 != number:
    raise ConfigError(
      f'config.json: vision_config.num_patches is {number}; mmjax reads only '
      'squares here'
    )
  return side


FAMILY = base.Family(
  model_class=Model,
  sections=SECTIONS,
  build_module=module,
  inputs=inputs,
  rules=rules,
  skip=siglip.SKIP,
  prefixes=siglip.PREFIXES,
)
