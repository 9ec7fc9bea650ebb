"""What the configs on the data set `shapes` share."""

from typing import Any

TRANSFORMER = dict(width=128, num_heads=4, mlp_dim=4 * 128)


def data(**more: Any) -> dict[str, Any]:
  """The data set, its images and captions, and its compositional split."""
  return dict(
    name='shapes',
    image_size=48,
    text_length=36,
    extra_splits=('compositional',),
    **more,
  )


def image(**more: Any) -> dict[str, Any]:
  """A ResNet of three blocks over patches of 4 x 4 pixels."""
  return dict(
    name='resnet',
    stages=(1, 2),
    width=64,
    block='basic',
    stem='patch',
    patch_size=4,
    **more,
  )


def optimizer(**more: Any) -> dict[str, Any]:
  """AdamW with the weight decay and clipping of all of them."""
  return dict(name='adamw', weight_decay=0.05, clip_norm=1.0, **more)
