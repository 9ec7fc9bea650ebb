"""Own parts of the wrong kind are named; errors inside them are not hidden."""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from mmjax import encoders
from mmjax import nn as mnn
from mmjax.errors import ConfigError
from mmjax.models import contracts
from mmjax.types import TokenVectors


class Encoder(nn.Module):
  """Returns what a test says."""

  returns: str = 'tokens'

  @nn.compact
  def __call__(self, inputs, mask=None, *, train):
    x = nn.Dense(3)(inputs.reshape(len(inputs), 5, -1))
    if self.returns == 'array':
      return x
    if self.returns == 'error':
      raise ZeroDivisionError('mine')
    length = {'tokens': 5, 'short': 1}[self.returns]
    return TokenVectors(x, jnp.ones((len(x), length), bool), x.mean(1))


class WithoutMask(Encoder):
  def __call__(self, inputs, *, train):
    return super().__call__(inputs, train=train)


class Fusion(nn.Module):
  returns: str = 'tokens'

  def __call__(self, tokens, *, train):
    del train
    (one,) = tokens.values()
    return one if self.returns == 'tokens' else (one, None)


class Model(nn.Module):
  encoders: Mapping[str, nn.Module]
  fusion: nn.Module
  returns: str = 'dict'
  helper: nn.Module = nn.Dense(2)  # Not of the config.

  @nn.compact
  def __call__(self, batch, *, train):
    tokens = {
      name: encoder(batch[name], None, train=train)
      for name, encoder in self.encoders.items()
    }
    fused = self.fusion(tokens, train=train)
    return {'x': fused} if self.returns == 'dict' else fused


def _trace(name='photo', encoder=None, fusion=None, **settings):
  encoder, fusion = encoder or Encoder(), fusion or Fusion()
  model = Model({name: encoder}, fusion, **settings)
  batch = {'photo': jnp.zeros((2, 5, 7)), 'voice': jnp.zeros((2, 4000))}
  with contracts.checking(model):
    jax.eval_shape(
      lambda: model.init(jax.random.key(0), batch, train=False),
    )


PLACE = r'model\.encoders\.'


@pytest.mark.parametrize(
  'settings, message',
  [
    (
      {'encoder': Encoder('array')},
      PLACE + r'photo: Encoder returned an array float32 \[2, 5, 3\], but an '
      r'encoder returns mmjax.types.TokenVectors\(',
    ),
    (
      {'encoder': Encoder('short')},
      PLACE
      + r'photo: .* TokenVectors of the shapes \(2, 5, 3\), \(2, 1\), \(2, 3\)',
    ),
    (
      {'encoder': WithoutMask()},
      PLACE + r'photo: WithoutMask\.__call__, which has the arguments \(self, '
      r'inputs, \*, train\), cannot be called as encoder\(inputs, mask, train',
    ),
    (
      {
        'name': 'voice',
        'encoder': encoders.FromSamples(
          sample_rate=8000, encoder=Encoder('array')
        ),
      },
      PLACE + r'voice: Encoder returned an array',
    ),
    (
      {'fusion': Fusion('tuple')},
      r'model\.fusion: Fusion returned a tuple \(TokenVectors, NoneType\), but',
    ),
    (
      {'returns': 'tokens'},
      r'model: Model returned TokenVectors of the shapes .* but a model re',
    ),
  ],
)
def test_a_part_of_another_kind_is_named(settings, message):
  with pytest.raises(contracts.ContractError, match=f'^{message}'):
    _trace(**settings)


def test_a_value_that_a_module_refuses_has_the_modules_place():
  class Stacked(Fusion):
    @nn.compact
    def __call__(self, tokens, *, train):
      layers = mnn.Stack(2, 4, 2, 8, remat='dot', name='layers')
      layers(jnp.zeros((2, 3, 4)), train=train)

  message = r"mean 'dots'\? \(in fusion/layers of the model\)"
  with pytest.raises(ConfigError, match=message):
    _trace(fusion=Stacked())


def test_an_error_inside_a_part_is_raised_as_it_is():
  with pytest.raises(ZeroDivisionError, match='mine') as raised:
    _trace(encoder=Encoder('error'))
  assert any(e.name == '__call__' for e in raised.traceback)
  _trace()
