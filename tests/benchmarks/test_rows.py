"""The rows of the benchmark suite run, and their sides compute the same."""

import pytest

from benchmarks import rows, run
from benchmarks.sides import published, training
from mmjax.parallel import vocabulary
from mmjax.training import allocator

# One row of each kind, with the packages that it needs on mmjax's side too: the
# peer writes the checkpoint, or its config.
TORCH = ('torch', 'transformers')
ROWS = {
  'contrastive_ti32': (),
  'captioning': TORCH,
  'vqa': TORCH,
  'so400m_gpu': TORCH,
  'decoder_2b_gpu': TORCH,
  'largest_b32_gpu': (),
  'decoding_1': TORCH,
  'decoding_image': TORCH,
  'attention_plain_1024': (),
  'attention_tiled_1024': (),
  'vocabulary_whole': (),
  'vocabulary_chunks': (),
  'retrieval': (),
  'sounds': (),
  'images': (),
  'images_published': (),
  'compile_contrastive_unrolled': (),
}
PEERS = {
  'open_clip': ('open_clip',),
  'open_clip, compiled': ('open_clip',),
  'transformers': TORCH,
  'transformers, compiled': TORCH,
  'torch': ('torch',),
  'faiss': ('faiss',),
}


@pytest.fixture(autouse=True)
def settings(monkeypatch):
  monkeypatch.setattr(allocator, 'keep_memory', lambda: False)
  monkeypatch.setattr(vocabulary, 'CHUNK', vocabulary.CHUNK)


@pytest.mark.slow
@pytest.mark.parametrize('name', ROWS)
def test_sides_compute_the_same(name):
  for package in ROWS[name]:
    pytest.importorskip(package)
  info = {}
  for side, make in rows.ROWS[name].sides.items():
    if not all(map(_is_installed, PEERS.get(side, ()))):
      continue
    work = make(True)
    work.run()
    info[side] = dict(work.info)
  run.check_same(name, info)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['so400m', 'decoder_2b'])
def test_full_sizes_lower_for_a_gpu(name):
  pytest.importorskip('transformers')
  built = published.build_mmjax(published.MODELS[name], tiny=False)
  program = built.make_program()
  batch = training.find_shapes(program, built.batch)
  traced = program.trace(batch)
  assert 'module' in traced.lower(lowering_platforms=('cuda',)).as_text()[:500]


@pytest.mark.parametrize('most', [4, 5, 6, 11, 100])
def test_the_largest_batch_is_just_below_what_does_not_fit(most):
  tried = []

  def fits(size):
    tried.append(size)
    return size <= most

  assert training.find_largest(fits, 4) == max(n for n in tried if n <= most)
  assert len(tried) == len(set(tried)) and tried[-1] > most


def test_cells_have_ratios_by_example_and_mfu():
  info = {
    'mmjax': {'examples': 4, 'flops': 8e12, 'peak': 1e13, 'note': 'batch 4'},
    'open_clip': {'examples': 2},
  }
  seconds = {'mmjax': [1.0, 2.0, 4.0], 'open_clip': [3.0]}
  memory = {'mmjax': 2_000_000_000, 'open_clip': 500_000_000}
  result = run.Result('row', 'step', seconds, memory, info)
  assert result.list_cells() == [
    'step',
    '2,000 ms (1,500 to 3,000), batch 4, MFU 0.400',
    # Of 1.5 s an example instead of 0.5.
    'open_clip 3,000 ms (3,000 to 3,000), MFU 0.133',
    '3.00',
    '2.0, 0.5',
  ]


def _is_installed(package):
  try:
    __import__(package)
  except ImportError:
    return False
  return True
