"""Where compiled programs are kept."""

import jax

from mmjax.training import startup


def test_a_cache_that_cannot_be_written_is_reported(
  tmp_path, monkeypatch, capsys
):
  path = tmp_path / 'file'
  path.touch()
  before = jax.config.jax_compilation_cache_dir
  monkeypatch.setenv('MMJAX_CACHE_DIR', str(path / 'programs'))
  startup.use_compilation_cache()
  assert jax.config.jax_compilation_cache_dir == before
  printed = ''.join(capsys.readouterr())
  assert str(path / 'programs') in printed and 'MMJAX_CACHE_DIR' in printed
