"""Trains a model from several seeds, on batches that are read once.

Model, objective, optimizer and update are those that `mmjax.training` makes of
a config. Only the loop is shorter: one compiled step serves all seeds, the
batches of one epoch are kept in memory and repeated, and there is no folder,
checkpoint or log.
"""

import dataclasses
import itertools
import statistics
import time
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from experiments import multimodal
from mmjax import models, tasks
from mmjax.config import settings
from mmjax.data import batches, feeds, preprocess, sources
from mmjax.evaluators import robustness
from mmjax.models import from_config, predict
from mmjax.training import experiment as experiments
from mmjax.training import program as programs
from mmjax.types import Array, Batch, Params, TokenVectors

# Programs that run once: optimising them would take longer than running them.
_QUICK = {'xla_backend_optimization_level': 0}


@dataclasses.dataclass(frozen=True)
class Data:
  """The experiment of a config, and the data that all its models share.

  Attributes:
    config: a completed config.
    experiment: what is trained; its model can be exchanged.
    train: batches of one epoch.
    test: batches of the split `data.test_split`.
    source: the records of `test`, and
    preprocessor: what makes arrays of them; None of tokens that are kept.
  """

  config: Any
  experiment: experiments.Experiment
  train: Sequence[Batch]
  test: Sequence[Batch]
  source: sources.Source | None = None
  preprocessor: preprocess.Preprocessor | None = None

  @property
  def model(self) -> nn.Module:
    """The model of the config."""
    return self.experiment.model

  def encode_shapes(self) -> dict[str, TokenVectors]:
    """Shapes of what each encoder returns, of one or two examples."""
    key, batch = jax.random.key(0), self.experiment.init_batch
    alone = models.Multimodal(
      self.model.encoders, encoder_inputs=self.model.encoder_inputs
    )
    return jax.eval_shape(
      lambda: alone.init_with_output(key, batch, method='encode')[0]
    )


@dataclasses.dataclass(frozen=True)
class Result:
  """What the seeds of a model came to.

  Attributes:
    accuracies: on the test records, by target and seed.
    step_time: median CPU seconds of a step. On a machine that others use as
      well it varies less than the time on the clock.
    params: the trained parameters, by seed.
  """

  accuracies: dict[str, list[float]]
  step_time: float
  params: list[Params]


def read(config: Any) -> Data:
  """Builds the experiment of a config, and reads its batches.

  Args:
    config: a config of `experiments.multimodal` that predicts classes.

  Raises:
    ConfigError: if a setting or the data is refused.
  """
  config = settings.complete(config)
  settings.validate(config)
  chosen = multimodal.build.build_tasks(config)
  needs = {name: task.batch_keys() for name, task in chosen.items()}
  inputs = models.list_encoder_inputs(config.model)
  feed = feeds.open_feed(
    config.data,
    batch_size=config.train.batch_size,
    seed=config.seed,
    needs=needs,
    built=feeds.build_features(config.data, needs, inputs),
  )
  features = feed.preprocessor.features
  model = from_config.build(
    config, feed.preprocessor, tasks.find_output_spec(chosen, features)
  )
  experiment = experiments.Experiment(
    model=model,
    objectives=tasks.objectives(chosen, features),
    train_data=feed.train,
    init_batch=feed.init_batch,
    make_inputs=feed.preprocessor.make_inputs,
  )
  number = len(feed.train_source) // config.train.batch_size
  test = batches.iterate_eval(
    feed.splits['test'], feed.preprocessor, config.eval.batch_size
  )
  with feed.train.iterate() as epoch, test:
    read = list(itertools.islice(epoch, number))
    return Data(
      config,
      experiment,
      read,
      list(test),
      feed.splits['test'],
      feed.preprocessor,
    )


def train(data: Data, model: nn.Module, seeds: Sequence[int]) -> Result:
  """Trains a model from each seed, and tests it.

  A seed determines parameters and dropout; all get the same batches.

  Args:
    data: what `read` returned.
    model: the model, with the inputs and outputs of the config's.
    seeds: the seeds.
  """
  experiment = dataclasses.replace(data.experiment, model=model)
  mesh = programs.mesh_of(data.config)
  program = programs.build(data.config, experiment, mesh)
  first = np.uint32(seeds[0])
  init = (
    jax.jit(program.plan.init).lower(first).compile(compiler_options=_QUICK)
  )
  update = program.trace(data.train[0]).lower().compile()
  trained, times = [], []
  for seed in seeds:
    state = init(np.uint32(seed))
    for number in range(data.config.train.steps):
      start = time.process_time()
      batch = data.train[number % len(data.train)]
      state, metrics = update(state, batch, {})
      jax.block_until_ready(metrics)
      times.append(time.process_time() - start)
    trained.append(state.eval_params)
  return Result(_test(data, model, trained), statistics.median(times), trained)


def _test(
  data: Data, model: nn.Module, trained: Sequence[Params]
) -> dict[str, list[float]]:
  """Accuracies on the test records, by target and seed."""

  @jax.jit
  def compute(params: Params, batch: Batch) -> Any:
    made = data.experiment.make_inputs(batch)
    return model.apply({'params': params}, made, train=False)

  outputs = [[compute(params, b) for b in data.test] for params in trained]
  return {
    target: [
      _measure_accuracy([out[f'{target}_output'] for out in seed], data, target)
      for seed in outputs
    ]
    for target in model.output_sizes
  }


def _measure_accuracy(
  outputs: Sequence[Array], data: Data, target: str
) -> float:
  """Accuracy of outputs [B, C] on the test records that have a class."""
  right = [
    (np.argmax(out, axis=1) == batch[target])[
      batch[f'{target}_mask'] & batch['mask']
    ]
    for out, batch in zip(outputs, data.test, strict=True)
  ]
  return float(np.mean(np.concatenate(right)))


def measure_curves(
  data: Data, model: nn.Module, params: Params
) -> list[robustness.Point]:
  """Accuracy as each modality that a model reads goes missing, or gets noisy.

  Args:
    data: what `read` returned.
    model: a model with one target.
    params: its parameters.
  """
  (target,) = model.output_sizes
  read = model.encoder_inputs or {}
  return robustness.measure_curves(
    predict.make_output(model, target=target),
    params,
    data.source,
    data.preprocessor,
    target=target,
    inputs=[
      field for name in model.encoders for field in read.get(name, (name,))
    ],
    batch_size=data.config.eval.batch_size,
  )
