"""Built-in data sets are prepared by name."""

import pytest

from mmjax.data import prepare, records, shapes


def test_unknown_names_are_answered_with_the_known(tmp_path):
  with pytest.raises(
    ValueError, match=r"'shapez'.* shapes, shapes/small, .*easy"
  ):
    prepare.prepare('shapez', tmp_path)


def test_a_name_without_a_configuration_is_the_full_one(tmp_path, monkeypatch):
  tiny = [
    shapes.ShapesConfig(
      name=name, train=5, validation=2, test=2, compositional=2
    )
    for name in ('full', 'small')
  ]
  monkeypatch.setattr(shapes.Shapes, 'BUILDER_CONFIGS', tiny)
  monkeypatch.setattr(
    shapes.Shapes, 'builder_configs', {config.name: config for config in tiny}
  )
  monkeypatch.setenv('MMJAX_DATA_DIR', str(tmp_path))
  small = prepare.prepare('shapes/small', progress=False)
  assert small == tmp_path / 'shapes' / 'small' / '2.0.0'
  assert records.find_folder('shapes') is None
  full = prepare.prepare('shapes', progress=False)
  assert full == records.find_folder('shapes')
  assert records.list_prepared() == ['shapes', 'shapes/small']
