r"""DALL-E 2: two towers, a prior, and a generator, one after the other.

Does it help to draw an image by way of its embedding? The embeddings can also
be varied, interpolated, and changed by texts.

  python -m experiments.dalle2 --config=configs/dalle2_shapes.py \
    --workdir=runs/dalle2
  python -m experiments.dalle2 --config=configs/dalle2_shapes.py:prior \
    --workdir=runs/prior --config.init_from=towers=runs/towers

The first trains all stages: `WORKDIR/towers`, `WORKDIR/prior`, and in WORKDIR
itself the generator, beside the frozen ones. The second trains one stage alone.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmjax.parallel import hosts
from mmjax.training import experiment, main, runner

# The config's section with what differs in the stages before the last.
STAGES = 'stages'
build = experiment.Builder(sections=(STAGES,))


def run(
  config: Any,
  build: Callable[..., Any],
  workdir: str | Path,
  **options: Any,
) -> dict[str, float]:
  """Trains the stages of a config, each from those before it.

  Args:
    config: a completed config; `stages`, if it has any, are sections of it by
      the name of the stage, in the order 'towers', 'prior'.
    build: (config, mesh) -> Experiment.
    workdir: folder of the last stage; those before are in folders below it.
    **options: further arguments of `runner.run`, for the last stage.

  Returns:
    The results of the last stage; {} if a stage was stopped before its end.
  """
  stages = config.get(STAGES) or {}
  config = copy.deepcopy(config)
  if STAGES in config:
    with config.unlocked():
      del config[STAGES]
  sources: list[str] = []
  for name in ('towers', 'prior'):
    if name not in stages:
      continue
    hosts.log(f'stage {name}')
    folder = Path(workdir) / name
    if not runner.run(
      _make_stage(config, stages[name], sources), build, folder
    ):
      return {}
    sources.append(f'{name}={folder}')
  if sources:
    hosts.log('stage generator')
    config.init_from = ','.join(sources)
  return runner.run(config, build, workdir, **options)


def _make_stage(config: Any, sections: Any, sources: list[str]) -> Any:
  """The config of a stage: other sections, from the stages before it."""
  own = copy.deepcopy(config)
  with own.unlocked():
    for name, section in sections.items():
      own[name] = section
    own.init_from = ','.join(sources)
  return own


if __name__ == '__main__':
  main.launch(build, run=run)
