"""A training step of CLIP, by mmjax and by open_clip.

Both: two towers, softmax over the batch's pairs, AdamW.
"""

import dataclasses
from typing import Any

from benchmarks.sides import training
from benchmarks.sides.work import Work

_VOCABULARY = 49_408


@dataclasses.dataclass(frozen=True)
class Size:
  """Sizes of the two towers, and of a batch.

  Attributes:
    tower: name of the image tower for people.
    patch: side of a patch in pixels.
    image: width, depth and heads of the image tower.
    text: width, depth and heads of the text tower.
    embed_dim: width of the shared space.
    batch: number of pairs.
    length: tokens of a text.
    pixels: side of an image.
    dtype: precision of the computation.
  """

  tower: str
  patch: int
  image: tuple[int, int, int]
  text: tuple[int, int, int]
  embed_dim: int
  batch: int
  length: int = 77
  pixels: int = 224
  dtype: str = 'float32'

  @property
  def label(self) -> str:
    """The image tower and the batch, for people."""
    return f'{self.tower}, batch {self.batch:,}'

  def shrink(self) -> 'Size':
    """The same with towers that take a second."""
    return dataclasses.replace(
      self,
      image=(64, 2, 2),
      text=(64, 2, 2),
      embed_dim=32,
      batch=4,
      length=8,
      pixels=2 * self.patch,
    )


_TINY = (192, 12, 3)
SIZES = {
  'ti32': Size('ViT-Ti/32', 32, _TINY, _TINY, 192, 64, length=32),
  's16': Size('ViT-S/16', 16, (384, 12, 6), (384, 12, 6), 384, 16, length=32),
  'b32': Size('ViT-B/32', 32, (768, 12, 12), (512, 12, 8), 512, 16),
  'b16': Size('ViT-B/16', 16, (768, 12, 12), (512, 12, 8), 512, 64),
  'b32_gpu': Size(
    'ViT-B/32',
    32,
    (768, 12, 12),
    (512, 12, 8),
    512,
    1024,
    dtype='bfloat16',
  ),
  'b16_gpu': Size(
    'ViT-B/16',
    16,
    (768, 12, 12),
    (512, 12, 8),
    512,
    512,
    dtype='bfloat16',
  ),
  'l14_gpu': Size(
    'ViT-L/14',
    14,
    (1024, 24, 16),
    (768, 12, 12),
    768,
    256,
    dtype='bfloat16',
  ),
}


def make_mmjax(size: Size, tiny: bool) -> Work:
  """The update that `python -m experiments.contrastive` compiles."""
  from mmjax.training import allocator

  allocator.keep_memory()  # As the command does.
  return training.make_step(build_mmjax(size, tiny))


def make_largest_mmjax(size: Size, tiny: bool) -> Work:
  """The same of the largest batch that fits."""
  size = size.shrink() if tiny else size
  build = lambda batch: build_mmjax(
    dataclasses.replace(size, batch=batch), tiny=False
  )
  return training.make_largest(build, *_find_limits(tiny))


def build_mmjax(size: Size, tiny: bool) -> training.Built:
  """The step of a config of these towers, on random data."""
  import ml_collections

  from mmjax.config import settings
  from mmjax.training import experiment, program

  size = size.shrink() if tiny else size

  def tower(sizes: tuple[int, int, int]) -> dict[str, Any]:
    width, depth, heads = sizes
    return {
      'width': width,
      'depth': depth,
      'num_heads': heads,
      'mlp_dim': 4 * width,
    }

  config = ml_collections.ConfigDict()
  config.data = {
    'name': f'synthetic/{_VOCABULARY}',
    'image_size': size.pixels,
    'text_length': size.length,
  }
  config.model = {
    'name': 'dual_encoder',
    'embed_dim': size.embed_dim,
    'image': dict(
      name='vit',
      patch_size=size.patch,
      class_token=True,
      pooling='first',
      patch_bias=False,
      pre_norm=True,
      **tower(size.image),
    ),
    'text': dict(
      name='transformer', causal=True, pooling='last', **tower(size.text)
    ),
  }
  config.tasks = {'contrastive': {'weight': 1.0}}
  config.optimizer = {'name': 'adamw', 'lr': 1e-4, 'weight_decay': 0.1}
  config.train = {'steps': 1000, 'batch_size': size.batch, 'dtype': size.dtype}
  config = settings.complete(config)
  settings.validate(config)
  built = experiment.from_tasks(config, program.mesh_of(config))
  return training.Built(config, built, next(built.train_data.iterate(0)))


def make_open_clip(size: Size, tiny: bool, compiled: bool) -> Work:
  """The same step by open_clip's model and loss, in PyTorch.

  Args:
    size: sizes.
    tiny: whether to take tiny ones.
    compiled: whether `torch.compile` compiles the model.
  """
  import torch
  from open_clip import loss as losses
  from open_clip import model as models

  size = size.shrink() if tiny else size
  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  torch.manual_seed(0)
  (width, depth, heads), text = size.image, size.text
  clip = models.CLIP(
    embed_dim=size.embed_dim,
    vision_cfg={
      'layers': depth,
      'width': width,
      'head_width': width // heads,
      'patch_size': size.patch,
      'image_size': size.pixels,
    },
    text_cfg={
      'context_length': size.length,
      'vocab_size': _VOCABULARY,
      'width': text[0],
      'layers': text[1],
      'heads': text[2],
    },
  ).to(device)
  forward = torch.compile(clip) if compiled else clip
  loss = losses.ClipLoss()
  shape = (size.batch, 3, size.pixels, size.pixels)
  images = torch.randn(shape, device=device)
  texts = torch.randint(
    1, _VOCABULARY, (size.batch, size.length), device=device
  )
  return training.make_torch_step(
    lambda: loss(*forward(images, texts)), clip, size.batch, size.dtype
  )


def make_largest_open_clip(size: Size, tiny: bool) -> Work:
  """The same, compiled, of the largest batch that fits."""
  size = size.shrink() if tiny else size

  def make(batch: int) -> Work:
    chosen = dataclasses.replace(size, batch=batch)
    return make_open_clip(chosen, tiny=False, compiled=not tiny)

  return training.make_largest_torch(make, *_find_limits(tiny))


def _find_limits(tiny: bool) -> tuple[int, int]:
  """The smallest batch that is tried, and the largest, 0 for any."""
  return (2, 4) if tiny else (64, 0)
