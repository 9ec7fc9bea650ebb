"""A training step of CLIP, by mmjax and by open_clip.

Both: two towers, softmax over the batch's pairs, AdamW.
"""

import dataclasses
from typing import Any

import numpy as np

from benchmarks.sides.work import Work

_VOCABULARY = 49_408


@dataclasses.dataclass(frozen=True)
class Size:
  """Sizes of the two towers, and of a batch.

  Attributes:
    label: name for people.
    patch: side of a patch in pixels.
    image: width, depth and heads of the image tower.
    text: width, depth and heads of the text tower.
    embed_dim: width of the shared space.
    batch: number of pairs.
    length: tokens of a text.
    pixels: side of an image.
    dtype: precision of the computation.
  """

  label: str
  patch: int
  image: tuple[int, int, int]
  text: tuple[int, int, int]
  embed_dim: int
  batch: int
  length: int = 77
  pixels: int = 224
  dtype: str = 'float32'

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
  'ti32': Size('ViT-Ti/32, batch 64', 32, _TINY, _TINY, 192, 64, length=32),
  's16': Size(
    'ViT-S/16, batch 16', 16, (384, 12, 6), (384, 12, 6), 384, 16, length=32
  ),
  'b32': Size('ViT-B/32, batch 16', 32, (768, 12, 12), (512, 12, 8), 512, 16),
  'b32_gpu': Size(
    'ViT-B/32, batch 1,024',
    32,
    (768, 12, 12),
    (512, 12, 8),
    512,
    1024,
    dtype='bfloat16',
  ),
  'b16_gpu': Size(
    'ViT-B/16, batch 512',
    16,
    (768, 12, 12),
    (512, 12, 8),
    512,
    512,
    dtype='bfloat16',
  ),
  'l14_gpu': Size(
    'ViT-L/14, batch 256',
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
  import jax

  from mmjax.training import allocator

  allocator.keep_memory()  # As the command does.
  size = size.shrink() if tiny else size
  config, program, batch = _build_mmjax(size)
  update = program.trace(batch).lower().compile()
  init = jax.jit(program.plan.init, out_shardings=program.plan.shardings)
  state = init(np.uint32(config.seed))
  leaves = jax.tree.leaves(state.params)
  parameters = sum(leaf.size for leaf in leaves)

  def run():
    nonlocal state
    state, metrics = update(state, batch, {})  # No frozen models.
    jax.block_until_ready((state, metrics))

  return Work(run, {'parameters': parameters})


def _build_mmjax(size: Size) -> tuple[Any, Any, Any]:
  """The config, its program and a batch on its devices."""
  import ml_collections

  from mmjax.config import settings
  from mmjax.parallel import mesh as mesh_lib
  from mmjax.training import experiment, program

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
  mesh = program.mesh_of(config)
  built = experiment.from_tasks(config, mesh)
  batch = mesh_lib.shard_batch(next(built.train_data.iterate(0)), mesh)
  return config, program.build(config, built, mesh), batch


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
  parameters = sum(p.numel() for p in clip.parameters())
  forward = torch.compile(clip) if compiled else clip
  loss = losses.ClipLoss()
  optimizer = torch.optim.AdamW(clip.parameters(), lr=1e-4, weight_decay=0.1)
  shape = (size.batch, 3, size.pixels, size.pixels)
  images = torch.randn(shape, device=device)
  texts = torch.randint(
    1, _VOCABULARY, (size.batch, size.length), device=device
  )
  low = size.dtype == 'bfloat16'

  def run():
    with torch.autocast(device, torch.bfloat16, enabled=low):
      value = loss(*forward(images, texts))
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    if device == 'cuda':
      torch.cuda.synchronize()

  return Work(run, {'parameters': parameters})
