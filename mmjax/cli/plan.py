"""`mmjax plan`: estimates what a training step needs, without the devices."""

import argparse
import contextlib
import json
import pathlib
from typing import Any

from mmjax.cli import arguments

USAGE = """\
  mmjax plan --config=configs/clip.py:b16 --topology=v5e:4x4
  mmjax plan --config=configs/vlm_2b.py --topology=v5p:2x2x4 \\
    --config.mesh.fsdp=16 --examples=1e9 --price_per_chip_hour=2
  mmjax plan --config=configs/clip.py:l14 --topology=v5e:4x4 --search
  mmjax plan --config=configs/contrastive_shapes.py --topology=h100:8 \\
    --config.data.name=synthetic

Every field of the config is a flag, as for training. Nothing is trained: the
step is compiled by XLA for the topology, which takes minutes for a large model.
"""


def main(argv: list[str]) -> int:
  """Compiles the training step of a config and prints what it needs.

  Raises:
    ConfigError: for a config, topology or mesh that is not possible.
  """
  from mmjax.config import overrides

  rest, changes = overrides.split(argv)
  parser = _parser()
  args = parser.parse_args(rest)
  if args.slices < 1:
    parser.error(
      f'--slices={args.slices} is not a number of slices; use 1 or more'
    )
  if args.search_batches and not args.search:
    parser.error('--search_batches needs --search; add it')
  if args.json is not None:
    arguments.check_output_file(f'--json={args.json}', args.json)
  config = overrides.load(args.config)
  overrides.override(config, changes)

  from mmjax.planning import topologies

  topologies.prepare(args.topology, args.slices)
  # These import JAX, which must not start before `prepare`.
  from mmjax.planning import experiments, report, search, step

  devices = topologies.devices(args.topology, args.slices)
  config, build = experiments.load(config, [path for path, _ in changes])
  run_settings = {
    'examples': args.examples or config.train.steps * config.train.batch_size,
    'price_per_chip_hour': args.price_per_chip_hour,
  }
  if args.search:
    ranked = search.run(
      config,
      build,
      devices,
      batches=args.search_batches,
      chip=topologies.find_gpu(args.topology),
      log=_log,
      save=lambda outcomes: _write(args.json, search.to_json(outcomes)),
    )
    print(search.to_text(ranked, **run_settings))
  else:
    compiled = step.compile_step(config, build, devices)
    gpu = topologies.find_gpu(args.topology)
    numbers = report.make(compiled, devices, gpu)
    print(report.to_text(numbers, **run_settings))
    _write(args.json, report.to_json(numbers))
  return 0


def _write(file: str | None, results: Any) -> None:
  """Replaces the JSON file atomically, if one is asked for."""
  if file:
    part = pathlib.Path(f'{file}.part')
    with arguments.naming(f'--json={file}', 'write'):
      part.write_text(json.dumps(results, indent=2))
      part.replace(file)


def _parser() -> argparse.ArgumentParser:
  parser = arguments.Parser(
    hint=_config_flag,
    prog='mmjax plan',
    description='Compile the training step of a config for a TPU slice, '
    'or for CPU devices in the place of GPUs, and estimate memory, '
    'communication, speed and cost.',
    epilog=USAGE,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add('--config', required=True, help='config file, or file.py:argument')
  add(
    '--topology',
    required=True,
    help='a slice: v5e:4x4, v6e:16x16, v5p:2x2x4, v4:2x2x2; GPUs of a host: '
    'h100:8; or cpu:8',
  )
  add(
    '--slices',
    type=int,
    default=1,
    help='number of such slices; only data is split between them',
  )
  add(
    '--examples',
    type=_positive,
    help='number of training examples of the run, for its time and cost '
    '(default: train.steps times train.batch_size)',
  )
  add(
    '--price_per_chip_hour',
    type=_positive,
    help='price in any currency, for the cost of the run',
  )
  add(
    '--search',
    action='store_true',
    help='compile and rank the sensible meshes, remat policies and batch sizes',
  )
  add(
    '--search_batches',
    type=_numbers,
    default=(),
    metavar='N,N,...',
    help='batch sizes per chip that --search tries (default: half of the '
    "config's, the config's and twice it)",
  )
  add(
    '--json',
    metavar='FILE',
    help='file to write all numbers to, with --search after each choice',
  )
  return parser


def _config_flag(flag: str) -> str:
  """The flag of a config field with the name of an unknown flag."""
  from mmjax.config import overrides

  return overrides.suggest(flag)


def _positive(text: str) -> float:
  with contextlib.suppress(ValueError):
    number = float(text)
    if 0 < number < float('inf'):
      return number
  raise argparse.ArgumentTypeError(f'{text!r} is not a number above 0')


def _numbers(text: str) -> tuple[int, ...]:
  with contextlib.suppress(ValueError):
    numbers = tuple(int(part) for part in text.split(','))
    if min(numbers) > 0:
      return numbers
  raise argparse.ArgumentTypeError(f'{text!r} are not whole numbers from 1')


def _log(line: str) -> None:
  print(line, flush=True)
