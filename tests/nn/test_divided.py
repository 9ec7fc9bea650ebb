"""Divided attention: over time, then over space."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import nn as mnn

BLOCK = mnn.DividedBlock(4, 2, 5, frames=2)
TOKENS = jnp.asarray(  # 2 frames of 3 tokens.
  np.random.default_rng(0).normal(size=(1, 6, 4)), jnp.float32
)


def test_time_then_space(draw):
  variables = draw(BLOCK, TOKENS, train=False)

  def outputs(tokens):
    _, collected = BLOCK.apply(
      variables, tokens, train=False, mutable=['intermediates']
    )
    return collected['intermediates']

  out = outputs(TOKENS)
  changed = outputs(TOKENS.at[:, 4, 0].add(1.0))  # Frame 1, position 1.
  touched = {
    name: np.any(np.asarray(out[name][0] != changed[name][0]), axis=(0, 2))
    for name in ('time_attention_output', 'attention_output')
  }
  # Position 1 of both frames, and through it all of both frames.
  assert touched['time_attention_output'].tolist() == [0, 1, 0, 0, 1, 0]
  assert touched['attention_output'].all()
  # Attention over space alone stays within the frame.
  params = variables['params']
  params = {
    'params': params
    | {'time_attention': jax.tree.map(jnp.zeros_like, params['time_attention'])}
  }
  apply = lambda tokens: BLOCK.apply(params, tokens, train=False)[0]
  moved = apply(TOKENS) != apply(TOKENS.at[:, 4, 0].add(1.0))
  assert np.any(moved, axis=(0, 2)).tolist() == [0, 0, 0, 1, 1, 1]


def test_a_context_is_refused():
  context = mnn.Context(TOKENS)
  with pytest.raises(ValueError, match='neither a context nor a cache'):
    jax.eval_shape(
      lambda: BLOCK.init(jax.random.key(0), TOKENS, context, train=False)
    )
