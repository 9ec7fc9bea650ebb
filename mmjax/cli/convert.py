"""`mmjax convert`: writes a trained model as a Hugging Face folder."""

import argparse
import pathlib

from mmjax.cli import arguments
from mmjax.errors import ConfigError

USAGE = """\
  mmjax convert runs/finetuned out
  mmjax convert openai/clip-vit-base-patch32 clip --dtype=bfloat16
  mmjax convert runs/lora adapter --adapter

IN is a Hugging Face folder, a model name on the hub, or the folder of a run
that started from a whole pretrained model (--config.init_from). OUT is a folder
that transformers can load, with adapters merged, or with --adapter one that
PEFT can load; a model in it is replaced.
"""


def main(argv: list[str]) -> int:
  """Reads a model and writes it as a Hugging Face folder.

  Raises:
    ConfigError: if IN has no Hugging Face format, OUT is IN, or OUT can't be
      written.
  """
  parser = arguments.Parser(
    prog='mmjax convert',
    description='Write a trained model as a Hugging Face folder.',
    epilog=USAGE,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('source', metavar='IN', help='model to read')
  parser.add_argument('folder', metavar='OUT', help='folder to write')
  arguments.add_run(parser)
  parser.add_argument(
    '--dtype',
    choices=('float32', 'bfloat16', 'float16'),
    default='float32',
    help='dtype of the written tensors (default: %(default)s)',
  )
  parser.add_argument(
    '--adapter',
    action='store_true',
    help="write the adapters alone, in PEFT's format",
  )
  args = parser.parse_args(argv)
  out = pathlib.Path(args.folder)
  if out.resolve() == pathlib.Path(args.source).resolve():
    raise ConfigError(f'IN and OUT are both {out}; write to another folder')
  arguments.check_output_folder(f'OUT={out}', out)
  arguments.check_model(args.source)
  if args.adapter:
    _check_adapters(args.source)
  # JAX is imported late, so that the errors above come at once.
  import jax

  import mmjax
  from mmjax.nn import adapters
  from mmjax.pretrained import tensors

  model = mmjax.load(
    args.source, param_dtype=args.dtype, **arguments.get_run(args)
  )
  if args.adapter:
    with arguments.naming(f'OUT={out}', 'write'):
      mmjax.save_adapter(model, out)
    print(f'{out}: the adapters of {model.base}')
    return 0
  with arguments.naming(f'OUT={out}', 'write'):
    mmjax.save(model, out)
  params, _ = adapters.split(model.params)
  number = sum(leaf.size for leaf in jax.tree.leaves(params))
  written = len(tensors.Tensors(out).names)
  print(f'{out}: {number:,} parameters in {written} tensors')
  return 0


def _check_adapters(source: str) -> None:
  """Refuses a folder without adapters, before its weights are read."""
  from mmjax.config import settings
  from mmjax.pretrained import hub, peft_config

  folder = hub.find_local(source)
  if folder is None:  # The hub's.
    return
  if hub.is_run(folder):
    config = settings.complete(settings.from_json(folder / 'config.json'))
    has_adapters = bool(config.adapter.layers)
  else:
    has_adapters = (folder / peft_config.FILE).exists()
  if not has_adapters:
    raise ConfigError(
      f'--adapter: {source} has no adapters; train some with adapter.layers, '
      'or leave it out'
    )
