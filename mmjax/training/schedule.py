"""Learning rate as a function of the step."""

from typing import Any

import jax.numpy as jnp
import optax

from mmjax.config import schema
from mmjax.errors import ConfigError, check_choice


def build(config: Any, steps: int) -> optax.Schedule:
  """A linear warm-up over `warmup_steps`, then one of four shapes.

  With W warm-up steps of `steps`, peak `lr` and f = `final_lr_fraction`, the
  update numbered t = 0, 1, ... has

    t < W      lr (t + 1) / W
    cosine     lr (f + (1 - f) (1 + cos(pi p)) / 2),  p = (t - W) / (steps - W)
    linear     lr (f + (1 - f) (1 - p))
    constant   lr
    rsqrt      lr sqrt(s / (s + t - W)),  s = max(W, 1)
               (Zhai et al. 2022, arXiv:2106.04560, without the cooldown)

  Args:
    config: the section `optimizer`.
    steps: updates in the run, where the decay ends.

  Raises:
    ConfigError: if the kind is unknown or the warm-up fills the run.
  """
  kind, peak, warmup = config.schedule, config.lr, config.warmup_steps
  final = config.final_lr_fraction
  kinds = schema.OPTIMIZER['schedule'].choices
  check_choice(kind, kinds, 'optimizer.schedule')
  if warmup >= steps and kind in ('cosine', 'linear'):
    raise ConfigError(
      f'optimizer.warmup_steps={warmup} leaves nothing of '
      f'train.steps={steps} to decay in; lower it'
    )

  def schedule(step):
    step = jnp.asarray(step, jnp.float32)
    after = jnp.maximum(step - warmup, 0.0)
    progress = jnp.clip(after / max(steps - warmup, 1), 0.0, 1.0)
    if kind == 'cosine':
      shape = final + (1 - final) * (1 + jnp.cos(jnp.pi * progress)) / 2
    elif kind == 'linear':
      shape = final + (1 - final) * (1 - progress)
    elif kind == 'rsqrt':
      scale = max(warmup, 1)
      shape = jnp.sqrt(scale / (scale + after))
    else:
      shape = jnp.ones(())
    return peak * jnp.minimum((step + 1) / max(warmup, 1), shape)

  return schedule


def change(config: Any, before: int | None, steps: int, done: int) -> str:
  """What another length of the run does to its learning rate; '' if nothing.

  Args:
    config: the section `optimizer`.
    before: steps that the run had until now; None if it is new.
    steps: those that it has from now on.
    done: steps that are done; the message is about the last of them.
  """
  if not done or before in (None, steps):
    return ''
  old, new = (float(build(config, n)(done - 1)) for n in (before, steps))
  if old == new:
    return ''
  how = 'stretched' if steps > before else 'compressed'
  return (
    f'train.steps changed from {before} to {steps}: the learning rate at step '
    f'{done} is {new:.1e} instead of {old:.1e}, since its schedule '
    f'({config.schedule}) is {how}'
  )
