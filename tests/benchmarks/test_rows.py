"""The sides of mmjax in the benchmark suite follow the library's interfaces."""

import pytest

from benchmarks import rows
from mmjax.training import allocator


@pytest.mark.slow
@pytest.mark.parametrize('name', ['contrastive_ti32', 'decoding_1'])
def test_the_side_of_mmjax_runs(name, monkeypatch):
  if name.startswith('decoding'):  # They write the checkpoint.
    pytest.importorskip('torch')
    pytest.importorskip('transformers')
  monkeypatch.setattr(allocator, 'keep_memory', lambda: False)
  work = rows.ROWS[name].sides['mmjax'](True)
  work.run()
  assert work.info['parameters'] > 1e6
