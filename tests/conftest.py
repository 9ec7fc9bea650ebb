"""Strictness for all tests: no silent rank promotion, shapes are checked."""

import jax
import pytest


@pytest.fixture(autouse=True)
def strict_ranks():
  with jax.numpy_rank_promotion('raise'):
    yield
