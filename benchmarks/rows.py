"""The rows of the benchmark suite: what is measured, and by which sides."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

from benchmarks.sides import (
  attention,
  contrastive,
  decoding,
  published,
  retrieval,
  sounds,
  starting,
  training,
  transforms,
  vocabulary,
)
from benchmarks.sides.work import Work


@dataclasses.dataclass(frozen=True)
class Row:
  """A comparison, or a measurement of mmjax alone.

  Attributes:
    label: what is measured.
    sides: (whether sizes are tiny) -> work, by library; mmjax first.
    suites: suites that it belongs to, of 'cpu' and 'gpu'.
    alone: whether a side may need all of a device's memory. Then it has all its
      turns before the other side starts.
  """

  label: str
  sides: Mapping[str, Callable[[bool], Work]]
  suites: tuple[str, ...] = ('cpu',)
  alone: bool = False


def _make_contrastive_row(name: str, compiled: bool) -> Row:
  size = contrastive.SIZES[name]
  peer = 'open_clip, compiled' if compiled else 'open_clip'
  return Row(
    f'contrastive training step, {size.label}, {size.dtype}',
    {
      'mmjax': functools.partial(contrastive.make_mmjax, size),
      peer: functools.partial(
        contrastive.make_open_clip, size, compiled=compiled
      ),
    },
    ('gpu',) if name.endswith('_gpu') else ('cpu',),
  )


def _make_largest_row(name: str) -> Row:
  size = contrastive.SIZES[name]
  return Row(
    f'contrastive training step of the largest batch, {size.tower}, '
    f'{size.dtype}; times as fast by example',
    {
      'mmjax': functools.partial(contrastive.make_largest_mmjax, size),
      'open_clip, compiled': functools.partial(
        contrastive.make_largest_open_clip, size
      ),
    },
    ('gpu',),
    alone=True,
  )


def _make_published_row(name: str, on_gpu: bool = False) -> Row:
  model = published.MODELS[name]
  peer = 'transformers, compiled' if on_gpu else 'transformers'
  return Row(
    model.label,
    {
      'mmjax': functools.partial(published.make_mmjax, model),
      peer: functools.partial(
        published.make_transformers, model, compiled=on_gpu
      ),
    },
    ('gpu',) if on_gpu else ('cpu',),
    alone=on_gpu,
  )


def _make_decoding_row(batch: int, beams: int = 1, image: bool = False) -> Row:
  how = 'greedy decoding' if beams == 1 else f'{beams} beams'
  model = 'LLaVA of 51M, an image of 256 tokens' if image else 'Qwen2 of 40M'
  return Row(
    f'{how}, {model}, 64 + 64 tokens, batch {batch}',
    {
      'mmjax': functools.partial(decoding.make_mmjax, batch, beams, image),
      'transformers': functools.partial(
        decoding.make_transformers, batch, beams, image
      ),
    },
  )


def _make_attention_row(form: str, length: int) -> Row:
  return Row(
    f'causal attention and gradients, [1, {length:,}, 12, 64], {form}',
    {
      'mmjax': functools.partial(attention.make_mmjax, form, length),
      'torch': functools.partial(attention.make_torch, length),
    },
  )


def _make_vocabulary_row(chunks: bool) -> Row:
  how = 'in chunks' if chunks else 'whole'
  return Row(
    f'loss and gradients, [1,024, 768] x 50,257, logits {how}',
    {
      'mmjax': functools.partial(vocabulary.make_mmjax, chunks),
      'torch': vocabulary.make_torch,
    },
  )


def _make_start_row(cold: bool) -> Row:
  how = 'cold' if cold else 'warm'
  return Row(
    f'command to first step, CLIP B/32, batch 16, compilation cache {how}',
    {
      'mmjax': functools.partial(starting.make_mmjax, cold),
      'open_clip': starting.make_open_clip,
    },
  )


def _make_compile_row(
  label: str, build: Callable[[bool], training.Built], scan: bool
) -> Row:
  how = '' if scan else ', layers unrolled'
  return Row(
    f'compiling a training step{how}, {label}',
    {
      'mmjax': lambda tiny: training.make_compilation(
        lambda: build(tiny), scan
      ),
    },
  )


def _make_compile_rows() -> dict[str, Row]:
  clip = contrastive.SIZES['b16']
  steps = {
    'contrastive': (
      clip.label,
      functools.partial(contrastive.build_mmjax, clip),
    )
  }
  for name in ('captioning', 'vqa', 'decoder_2b'):
    model = published.MODELS[name]
    steps[name] = model.label, functools.partial(published.build_mmjax, model)
  return {
    f'compile_{name}{"" if scan else "_unrolled"}': _make_compile_row(
      *step, scan
    )
    for name, step in steps.items()
    for scan in (True, False)
  }


ROWS = {
  'contrastive_ti32': _make_contrastive_row('ti32', compiled=False),
  'contrastive_ti32_compiled': _make_contrastive_row('ti32', compiled=True),
  'contrastive_s16': _make_contrastive_row('s16', compiled=False),
  'contrastive_b32': _make_contrastive_row('b32', compiled=False),
  'contrastive_b32_gpu': _make_contrastive_row('b32_gpu', compiled=True),
  'contrastive_b16_gpu': _make_contrastive_row('b16_gpu', compiled=True),
  'contrastive_l14_gpu': _make_contrastive_row('l14_gpu', compiled=True),
  'so400m_gpu': _make_published_row('so400m', on_gpu=True),
  'decoder_2b_gpu': _make_published_row('decoder_2b', on_gpu=True),
  'largest_b32_gpu': _make_largest_row('b32_gpu'),
  'largest_b16_gpu': _make_largest_row('b16_gpu'),
  'captioning': _make_published_row('captioning'),
  'vqa': _make_published_row('vqa'),
  'decoding_1': _make_decoding_row(1),
  'decoding_8': _make_decoding_row(8),
  'decoding_beams': _make_decoding_row(1, beams=4),
  'decoding_image': _make_decoding_row(4, image=True),
  'attention_plain_1024': _make_attention_row('plain', 1024),
  'attention_tiled_1024': _make_attention_row('tiled', 1024),
  'attention_tiled_4096': _make_attention_row('tiled', 4096),
  'vocabulary_whole': _make_vocabulary_row(chunks=False),
  'vocabulary_chunks': _make_vocabulary_row(chunks=True),
  'retrieval': Row(
    'recalls among 100,000 pairs of 64 numbers, both directions',
    {'mmjax': retrieval.make_mmjax, 'faiss': retrieval.make_faiss},
  ),
  'sounds': Row(
    'log-mel spectrograms of eight sounds of 30 seconds',
    {'mmjax': sounds.make_mmjax, 'transformers': sounds.make_transformers},
  ),
  'images': Row(
    '128 training images of 500x375 with captions, one thread',
    {'mmjax': transforms.make_mmjax, 'open_clip': transforms.make_open_clip},
  ),
  'images_published': Row(
    '128 images of 500x375 for a published CLIP, one thread',
    {
      'mmjax': transforms.make_published_mmjax,
      'transformers': transforms.make_published_transformers,
    },
  ),
  # mmjax loads its parts as they are used.
  'import': Row(
    '`from mmjax import load, train` in a new process',
    {
      'mmjax': functools.partial(
        starting.make_import, 'from mmjax import load, train'
      ),
      'jax, flax, optax': functools.partial(
        starting.make_import, 'import jax, flax, optax'
      ),
    },
  ),
  'start_cold': _make_start_row(cold=True),
  'start_warm': _make_start_row(cold=False),
  **_make_compile_rows(),
}
