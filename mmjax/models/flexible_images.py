"""What images of any aspect ratio need of the encoder that reads them."""

from collections.abc import Mapping

import flax.linen as nn

from mmjax import encoders
from mmjax.data import features as features_lib
from mmjax.errors import ConfigError


def check(
  model: nn.Module, features: Mapping[str, features_lib.Feature]
) -> None:
  """Refuses a model that can't read images of any aspect ratio.

  Args:
    model: the model.
    features: features by name.

  Raises:
    ConfigError: naming the settings that contradict each other.
  """
  for name, feature in features.items():
    if isinstance(feature, features_lib.FlexibleImage):
      for encoder in _list_readers(model, name):
        _check_encoder(f'data.features.{name}', feature, encoder)


def _list_readers(model: nn.Module, name: str) -> list[nn.Module]:
  """The encoders that read a feature; none of one that a task swaps in."""
  built = getattr(model, 'encoders', None)
  if built is not None:
    inputs = model.encoder_inputs or {}
    return [one for key, one in built.items() if name in inputs.get(key, [key])]
  if hasattr(model, 'vision'):
    raise ConfigError(
      f'data.features.{name} is of the kind flexible_image, which '
      f"{type(model).__name__} does not read; use the kind 'patches' or 'tiles'"
    )
  return [one] if (one := getattr(model, name, None)) is not None else []


def _check_encoder(
  where: str,
  feature: features_lib.FlexibleImage,
  encoder: nn.Module,
) -> None:
  if not isinstance(encoder, encoders.FlexibleViT | encoders.PackedViT):
    raise ConfigError(
      f'{where} is of the kind {feature.kind}, which {type(encoder).__name__} '
      "does not encode; use the encoder 'flexible_vit' or 'packed_vit', or the "
      "kind 'image'"
    )
  if encoder.patch_size != feature.patch_size:
    raise ConfigError(
      f'{where}.patch_size is {feature.patch_size}, but that of the encoder is '
      f'{encoder.patch_size}; make them equal'
    )
  side = getattr(encoder, 'merge_size', 1)
  if feature.multiple % side:
    raise ConfigError(
      f'{where}.multiple is {feature.multiple}, but the encoder merges squares '
      f'of {side} x {side} patches; set it to {side}'
    )
