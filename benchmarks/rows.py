"""The rows of the benchmark suite: what is measured, and by which sides."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

from benchmarks.sides import contrastive, decoding, sounds, transforms
from benchmarks.sides.work import Work


@dataclasses.dataclass(frozen=True)
class Row:
  """A comparison.

  Attributes:
    label: what is measured.
    sides: (whether sizes are tiny) -> work, by library; mmjax first.
    suites: suites that it belongs to, of 'cpu' and 'gpu'.
  """

  label: str
  sides: Mapping[str, Callable[[bool], Work]]
  suites: tuple[str, ...] = ('cpu',)


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


def _make_decoding_row(batch: int, beams: int = 1) -> Row:
  how = 'greedy decoding' if beams == 1 else f'{beams} beams'
  return Row(
    f'{how}, Qwen2 of 50M, 64 + 64 tokens, batch {batch}',
    {
      'mmjax': functools.partial(decoding.make_mmjax, batch, beams),
      'transformers': functools.partial(
        decoding.make_transformers, batch, beams
      ),
    },
  )


ROWS = {
  'contrastive_ti32': _make_contrastive_row('ti32', compiled=False),
  'contrastive_ti32_compiled': _make_contrastive_row('ti32', compiled=True),
  'contrastive_s16': _make_contrastive_row('s16', compiled=False),
  'contrastive_b32': _make_contrastive_row('b32', compiled=False),
  'contrastive_b32_gpu': _make_contrastive_row('b32_gpu', compiled=True),
  'contrastive_b16_gpu': _make_contrastive_row('b16_gpu', compiled=True),
  'contrastive_l14_gpu': _make_contrastive_row('l14_gpu', compiled=True),
  'decoding_1': _make_decoding_row(1),
  'decoding_8': _make_decoding_row(8),
  'decoding_beams': _make_decoding_row(1, beams=4),
  'sounds': Row(
    'log-mel spectrograms of eight sounds of 30 seconds',
    {'mmjax': sounds.make_mmjax, 'transformers': sounds.make_transformers},
  ),
  'images': Row(
    '128 training images of 500x375 with captions, one thread',
    {'mmjax': transforms.make_mmjax, 'open_clip': transforms.make_open_clip},
  ),
}
