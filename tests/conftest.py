"""Strictness for all tests: shapes, no rank promotion; and quick compiling."""

import functools
import gc
import os
import subprocess
import sys

import flax.linen as nn
import jax
import jaxtyping
import numpy as np
import pytest

# Public signatures' shapes are checked here, not in production. This must come
# before the first import of these modules.
jaxtyping.install_import_hook(
  [
    'mmjax.data.augment',
    'mmjax.data.images',
    'mmjax.metrics',
    'mmjax.objectives',
    'mmjax.parallel.attention_forms',
    'mmjax.parallel.cudnn_attention',
    'mmjax.parallel.ring_attention',
    'mmjax.parallel.splash_attention',
    'mmjax.parallel.tiled_attention',
    'mmjax.parallel.vocabulary',
    'mmjax.ops',
  ],
  # Whole numbers are numbers too.
  'beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))',
)

from mmjax.training import startup  # noqa: E402

# Their tests start processes, and take longest.
_FIRST = ('parallel', 'train', 'experiments', 'sweeps')


def pytest_collection_modifyitems(items):
  """What takes longest begins first, lest all else has ended before it."""
  items.sort(key=lambda item: item.path.parent.name not in _FIRST)


@pytest.fixture(autouse=True)
def strict_ranks():
  with jax.numpy_rank_promotion('raise'):
    yield


@pytest.fixture(scope='module', autouse=True)
def quick_compiling(request):
  """Programs here run for a millisecond, so compiling well doesn't pay."""
  # Training is compared with other processes', which compile as users do.
  if request.path.parent.name in ('training', 'cli'):
    yield
    return
  jax.config.update('jax_disable_most_optimizations', True)
  yield
  jax.config.update('jax_disable_most_optimizations', False)


@pytest.fixture(scope='session', autouse=True)
def cached_programs():
  """What is compiled in one process, and one session, is for the next."""
  startup.use_compilation_cache()


@pytest.fixture(scope='module', autouse=True)
def quick_collecting():
  """What a file leaves behind is not looked through again and again."""
  yield
  gc.collect()
  gc.freeze()


_ARRAY = object()


class _Settings(tuple):
  """What is no array: equal if it is the same, since not all of it hashes."""

  def __hash__(self):
    return hash(tuple(map(id, self)))

  def __eq__(self, other):
    return tuple(map(id, self)) == tuple(map(id, other))


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _run(method, rules, tree, settings, arrays):
  del rules  # Of axes, which modules read; jit knows of meshes alone.
  arrays = iter(arrays)
  leaves = [next(arrays) if leaf is _ARRAY else leaf for leaf in settings]
  args, kwargs = jax.tree.unflatten(tree, leaves)
  return method(*args, **kwargs)


def _compiled(method):
  """A module's method as one program, once for all calls of the same kind."""

  @functools.wraps(method)
  def call(*args, **kwargs):
    leaves, tree = jax.tree.flatten((args, kwargs))
    is_array = lambda leaf: isinstance(leaf, jax.Array | np.ndarray)
    arrays = [leaf for leaf in leaves if is_array(leaf)]
    if any(isinstance(leaf, jax.core.Tracer) for leaf in arrays):
      return method(*args, **kwargs)
    settings = (_ARRAY if is_array(leaf) else leaf for leaf in leaves)
    rules = tuple(map(tuple, nn.get_logical_axis_rules()))
    return _run(method, rules, tree, _Settings(settings), arrays)

  return call


@pytest.fixture(scope='session', autouse=True)
def compiled_modules():
  """Modules run as users run them; op by op, each would be a program."""
  with pytest.MonkeyPatch.context() as patch:
    for name in ('init', 'apply'):
      patch.setattr(nn.Module, name, _compiled(getattr(nn.Module, name)))
    yield


@pytest.fixture(scope='session')
def draw():
  """Random variables for a module, all of them away from 0.

  Drawn from shapes alone, so that no init has to be compiled. Takes what the
  module's `init` takes after the key.
  """

  def one(rng, path, shape):
    name = str(path[-1])
    if 'scale' in name or 'var' in name:
      return jax.numpy.asarray(rng.uniform(0.5, 1.5, shape), 'float32')
    return jax.numpy.asarray(rng.normal(0, 0.3, shape), 'float32')

  def variables(module, *inputs, seed=0, **settings):
    boxed = jax.eval_shape(
      lambda: module.init(jax.random.key(0), *inputs, **settings)
    )
    rng = np.random.default_rng(seed)
    return jax.tree.map_with_path(
      lambda path, leaf: one(rng, path, leaf.shape), nn.meta.unbox(boxed)
    )

  return variables


@pytest.fixture(scope='session')
def on_eight_devices():
  """Runs the tests of a file in a process that has eight CPU devices."""

  def run(path):
    options = {'JAX_NUM_CPU_DEVICES': '8', 'PYTEST_ADDOPTS': ''}
    done = subprocess.run(
      [sys.executable, '-m', 'pytest', '-p', 'no:cacheprovider', str(path)],
      env={**os.environ, **options},
      capture_output=True,
      text=True,
      timeout=600,
      check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

  return run
