"""Training beside a twin that sees no image."""

import copy
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmjax.parallel import hosts
from mmjax.train import loop, progress


def run(
  config: Any, build: Callable[..., Any], workdir: str | Path
) -> dict[str, float]:
  """Trains a blind twin first, then the model, by the same loop.

  The twin has the same config but for `data.blind`, so the same number of
  steps on the same questions; its folder is `WORKDIR/blind`. What the model
  gains over it is what looking pays (Goyal et al. 2017, section 4). With
  `train.blind_baseline` off, without a VQA objective, or if the config is
  itself blind, only the model trains.

  Args:
    config: a completed config.
    build: (config, blind=None) -> Experiment, where `blind` are the twin's
      results, for its evaluators to yield beside their own.
    workdir: the run's folder.

  Returns:
    The model's results; {} if the run was stopped before its end.
  """
  asks = any(name.startswith('vqa') for name in config.objectives)
  if not asks or not config.train.blind_baseline or config.data.blind:
    return loop.run(config, build, workdir)
  folder = Path(workdir) / 'blind'
  if not (folder / 'results.json').exists():
    # What the model is refused for, before its blind baseline trains.
    with hosts.agreeing():
      loop.check(config, build)
  twin = copy.deepcopy(config)
  twin.data.blind = True
  twin.train.keep_best = ''
  progress.tell('training a twin that sees no image, for comparison')
  blind = loop.run(twin, build, folder)
  if not blind:
    return {}
  progress.tell('training the model')
  return loop.run(config, functools.partial(build, blind=blind), workdir)


def of_split(blind: Mapping[str, float] | None, split: str) -> dict[str, float]:
  """The twin's numbers of one split, named as its evaluators yielded them."""
  return {
    name.removeprefix(f'{split}/'): value
    for name, value in (blind or {}).items()
    if name.startswith(f'{split}/')
  }
