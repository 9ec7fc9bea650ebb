"""Training steps by mmjax: timed, compiled, or of the largest batch.

The step is the update that `python -m experiments.NAME` compiles.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from benchmarks.sides.work import Work

# Batches that `find_largest` tries: 1, 1.5, 2, 3, 4, ... times the first.
_MOST_DOUBLINGS = 12


@dataclasses.dataclass(frozen=True)
class Built:
  """A training step that is not compiled yet.

  Attributes:
    config: a completed config.
    experiment: of `mmjax.training.experiment`.
    batch: its batch, numpy arrays by name.
    params: parameters to start from; None for random ones.
  """

  config: Any
  experiment: Any
  batch: Mapping[str, np.ndarray]
  params: Any = None

  def make_program(self) -> Any:
    """The program of `mmjax.training.program`."""
    from mmjax.training import program

    mesh = program.mesh_of(self.config)
    return program.build(self.config, self.experiment, mesh)


class Repeated:
  """Training data of one batch."""

  def __init__(self, batch: Mapping[str, np.ndarray]):
    self._batch = batch

  def iterate(self, start_step: int) -> Iterator[Mapping[str, np.ndarray]]:
    del start_step
    return itertools.repeat(self._batch)


def make_step(built: Built, number: int = 0) -> Work:
  """A step; `output` are the losses of the first `number` steps."""
  import jax

  from mmjax.parallel import mesh as mesh_lib
  from mmjax.training import flops, model_flops

  program = built.make_program()
  batch = mesh_lib.shard_batch(built.batch, program.mesh)
  update = program.trace(batch).lower().compile()
  init = jax.jit(program.plan.init, out_shardings=program.plan.shardings)
  state = init(np.uint32(built.config.seed))
  if built.params is not None:
    params = jax.device_put(built.params, program.plan.shardings.params)
    state = state.replace(params=params)
  info = {
    'parameters': _count_parameters(program),
    'examples': built.config.train.batch_size,
    'flops': model_flops.count(
      built.config, built.experiment, state.params, batch
    ),
    'peak': flops.peak_of(program.mesh.devices.flat),
    'device': program.mesh.devices.flat[0].device_kind,
  }

  def run():
    nonlocal state
    state, metrics = update(state, batch, {})  # No frozen models.
    jax.block_until_ready((state, metrics))
    return float(metrics['loss'])

  return Work(run, {**info, 'output': [run() for _ in range(number)]})


def make_compilation(build: Callable[[], Built], scan: bool) -> Work:
  """Compiling a step from nothing: tracing, lowering and XLA.

  Args:
    build: makes the step.
    scan: whether layers are scanned, as they are by default.
  """
  import jax

  built = build()
  if not scan:
    model = _unroll(built.experiment.model)
    built = dataclasses.replace(
      built, experiment=dataclasses.replace(built.experiment, model=model)
    )
  program = built.make_program()
  batch = find_shapes(program, built.batch)
  compiled = None

  def run():
    nonlocal compiled
    jax.clear_caches()
    compiled = program.trace(batch).lower().compile()

  run()
  memory = compiled.memory_analysis().temp_size_in_bytes
  return Work(
    run,
    {
      'parameters': _count_parameters(program),
      'note': f'temporaries {memory / 1e6:,.0f} MB',
    },
    warm=0,
  )


def _unroll(module: Any) -> Any:
  """The module whose parts scan over no layers."""
  import flax.linen as nn

  changed = {
    field.name: _unroll(getattr(module, field.name))
    for field in dataclasses.fields(module)
    if field.name != 'parent'
    and isinstance(getattr(module, field.name, None), nn.Module)
  }
  if hasattr(module, 'scan'):
    changed['scan'] = False
  return module.clone(**changed)


def make_largest(build: Callable[[int], Built], start: int, most: int) -> Work:
  """A step of the largest batch of which a compiled step fits on the device.

  Args:
    build: batch size -> the step.
    start: the smallest batch that is tried.
    most: no larger batch is tried; 0 for any.
  """
  import jax

  device = jax.local_devices()[0]
  # A CPU does not say what it has.
  limit = (device.memory_stats() or {}).get('bytes_limit', math.inf)
  small = build(start)
  program = small.make_program()

  def fits(size: int) -> bool:
    if most and size > most:
      return False
    batch = find_shapes(program, small.batch, size)
    try:
      memory = program.trace(batch).lower().compile().memory_analysis()
    except jax.errors.JaxRuntimeError as error:
      if 'RESOURCE_EXHAUSTED' in str(error):
        return False
      raise
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes
    held += memory.temp_size_in_bytes - memory.alias_size_in_bytes
    return held <= limit

  size = find_largest(fits, start)
  work = make_step(build(size))
  return Work(work.run, {**work.info, 'note': f'batch {size:,}'})


def find_largest(fits: Callable[[int], bool], start: int) -> int:
  """The largest of some batch sizes that fits.

  Args:
    fits: whether a step of a batch size fits.
    start: the smallest size; those above are 1.5, 2, 3, 4, ... times it.

  Raises:
    RuntimeError: if not even `start` fits.
  """
  largest = 0
  for doubling in range(_MOST_DOUBLINGS):
    for size in (start << doubling, (3 * start << doubling) // 2):
      if not fits(size):
        if not largest:
          raise RuntimeError(f'a batch of {start} does not fit')
        return largest
      largest = size
  return largest


def find_shapes(
  program: Any, batch: Mapping[str, np.ndarray], size: int = 0
) -> dict[str, Any]:
  """Shapes of a batch on the program's devices, of `size` examples if set."""
  import jax

  from mmjax.parallel import mesh as mesh_lib

  sharding = mesh_lib.batch_sharding(program.mesh)
  return {
    name: jax.ShapeDtypeStruct(
      (size or len(array), *array.shape[1:]),
      jax.dtypes.canonicalize_dtype(array.dtype),
      sharding=sharding,
    )
    for name, array in batch.items()
  }


def _count_parameters(program: Any) -> int:
  import jax

  return sum(
    leaf.size for leaf in jax.tree.leaves(program.plan.abstract.params)
  )


def make_torch_step(
  compute_loss: Callable[[], Any],
  model: Any,
  examples: int,
  dtype: str,
  number: int = 0,
) -> Work:
  """A step of a model in PyTorch, with AdamW.

  Args:
    compute_loss: () -> the model's loss on its batch.
    model: the module whose parameters are trained.
    examples: number of examples of the batch.
    dtype: 'bfloat16' for autocast, or 'float32'.
    number: number of steps whose losses are the `output`.
  """
  import torch

  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1)
  device = next(model.parameters()).device.type
  low = dtype == 'bfloat16'

  def run():
    with torch.autocast(device, torch.bfloat16, enabled=low):
      value = compute_loss()
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    if device == 'cuda':
      torch.cuda.synchronize()
    return float(value.detach())

  info = {
    'parameters': sum(p.numel() for p in model.parameters()),
    'examples': examples,
  }
  return Work(run, {**info, 'output': [run() for _ in range(number)]})


def make_largest_torch(
  make: Callable[[int], Work], start: int, most: int
) -> Work:
  """A step in PyTorch of the largest batch that fits.

  Args:
    make: batch size -> a step, which raises if it does not fit.
    start: the smallest batch that is tried.
    most: no larger batch is tried; 0 for any.
  """
  import gc

  import torch

  def fits(size: int) -> bool:
    if most and size > most:
      return False
    try:
      make(size).run()
    except torch.OutOfMemoryError:
      return False
    finally:
      gc.collect()
      torch.cuda.empty_cache()
    return True

  size = find_largest(fits, start)
  work = make(size)
  return Work(work.run, {**work.info, 'note': f'batch {size:,}'})
