"""Fusions next to their plain formulas."""

import jax
import pytest

from benchmarks import fusion_speed, plain_fusions
from mmjax import fusion


def test_every_fusion_has_a_plain_formula():
  assert list(plain_fusions.FORMULAS) == list(fusion.FUSIONS)


@pytest.mark.parametrize('name', ['max', 'voting'])
def test_the_formula_has_the_values_of_the_fusion(name, monkeypatch):
  with jax.numpy_rank_promotion('allow'):
    fusion_speed.make_sides(name, batch=2)
  wrong = lambda p, a, b: (a[:, :1], a[:, 0])
  monkeypatch.setitem(plain_fusions.FORMULAS, name, wrong)
  with pytest.raises(ValueError, match=f'the formula of {name} does not'):
    fusion_speed.make_sides(name, batch=2)
