"""Training beside a blind baseline, a model that gets no images."""

import copy
import functools
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from mmjax.config import components
from mmjax.parallel import hosts
from mmjax.training import profiling, runner


def run(
  config: Any,
  build: Callable[..., Any],
  workdir: str | Path,
  *,
  profile_steps: range | None = None,
  flags: Collection[str] = (),
) -> dict[str, float]:
  """Trains a blind baseline first, then the model, by the same loop.

  The baseline has the same config except for `data.blind`, so the same number
  of steps on the same questions; its folder is `WORKDIR/blind`. The gain over
  it is what the images contribute (Goyal et al. 2017, section 4). With
  `train.blind_baseline` off, without a task that can be trained without images,
  or if the config is itself blind, only the model trains.

  Args:
    config: a completed config.
    build: (config, mesh, blind_metrics=None) -> Experiment; these are the
      baseline's results, for its evaluators to yield beside their own.
    workdir: the run's folder.
    profile_steps: steps of the model that are traced, as of `runner.run`.
    flags: paths of the fields that flags set, as of `runner.run`.

  Returns:
    The model's results; {} if the run was stopped before its end.
  """
  with hosts.raise_together():
    profiling.check(profile_steps, done=0, total=config.train.steps)
  if not _wants_baseline(config):
    return runner.run(
      config, build, workdir, profile_steps=profile_steps, flags=flags
    )
  folder = Path(workdir) / 'blind'
  if not (folder / 'results.json').exists():
    # What the model is refused for, before its blind baseline trains.
    with hosts.raise_together():
      runner.check(config, build, flags)
  baseline = copy.deepcopy(config)
  baseline.data.blind = True
  baseline.train.keep_best = ''
  hosts.log('training the blind baseline, which gets no images')
  metrics = runner.run(baseline, build, folder, flags=flags)
  if not metrics:
    return {}
  hosts.log('training the model')
  return runner.run(
    config,
    functools.partial(build, blind_metrics=metrics),
    workdir,
    profile_steps=profile_steps,
    flags=flags,
  )


def _wants_baseline(config: Any) -> bool:
  if not config.train.blind_baseline or config.data.blind:
    return False
  tasks = components.of(config).build_tasks(config)
  return any(task.without_images() is not None for task in tasks.values())
