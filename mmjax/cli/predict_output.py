"""The files that `mmjax predict` writes: a contact sheet, or a sound."""

import argparse
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmjax.cli import arguments
from mmjax.errors import ConfigError

_SOUND = '.wav'


def is_sound(output: str | None) -> bool:
  """Whether --output names a sound file."""
  return bool(output) and Path(output).suffix.lower() == _SOUND


def check_path(output: str) -> None:
  """Refuses a path that nothing can be written to, before any work.

  Raises:
    ConfigError: if it has no ending of an image or a sound, or as
      `arguments.check_output_file`.
  """
  flag = f'--output={output}'
  images = arguments.IMAGE_ENDINGS
  if Path(output).suffix.lower() not in (*images, _SOUND):
    raise ConfigError(
      f'{flag} should end in {", ".join(images)}, or of a sound {_SOUND}'
    )
  arguments.check_output_file(flag, output)


def check_use(
  use: Any,
  name: str,
  output: str | None,
  input_sets: Sequence[Mapping[str, str]],
  texts: Sequence[str],
) -> None:
  """Refuses a file that the chosen task does not write.

  Args:
    use: the `tasks.PredictUse` of the task.
    name: the model's name or folder.
    output: what --output names; None if it is not set.
    input_sets: sets of inputs.
    texts: those of --text.

  Raises:
    ConfigError: naming the flag and the fix.
  """
  flag = f'--output={output}'
  for inputs in input_sets if output else ():
    for field, value in inputs.items():
      if os.path.realpath(value) == os.path.realpath(output):
        raise ConfigError(
          f'{flag} is also the {field} that is read; use another file'
        )
  if not output:
    if use.needs_output_file:
      made, ending = ('images', 'png') if use.draw else ('a sound', 'wav')
      raise ConfigError(
        f'{name}: the task makes {made}; add --output=FILE.{ending}'
      )
  elif is_sound(output):
    if use.play is None:
      raise ConfigError(
        f'{flag}: the task makes no sound; generate_sound and autoencoders of '
        'sounds do'
      )
    for used, word in ((input_sets, 'sound'), (texts, 'text')):
      if len(used) > 1:
        raise ConfigError(
          f'{flag} holds one sound, but there are {len(used)} {word}s; use one '
          f'--{word}'
        )
  elif use.draw is None and use.play is not None:
    raise ConfigError(f'{flag}: the task makes a sound; use --output=FILE.wav')
  elif use.draw is None:
    raise ConfigError(
      f'{flag}: the task draws nothing; masked images and sounds are drawn, '
      'and images of texts'
    )


def list_settings(args: argparse.Namespace, use: Any) -> dict[str, Any]:
  """The flags that a task's `draw` or `play` gets.

  Raises:
    ConfigError: if one is set that it has not, or a value is not legal.
  """
  flags = ('seed', 'guidance', 'copies')
  choices = {flag: getattr(args, flag) for flag in flags}
  choices = {flag: v for flag, v in choices.items() if v is not None}
  make = use.draw or use.play
  known = inspect.signature(make).parameters if make else ()
  for flag, value in choices.items():
    if flag not in known:
      raise ConfigError(
        f'--{flag}={value}: the task has no such setting; leave it out'
      )
  if use.needs_output_file and args.beam_size is not None:
    raise ConfigError(
      f'--beam_size={args.beam_size}: the task writes no text; leave it out'
    )
  if choices.get('copies', 1) < 1:
    raise ConfigError(f'--copies={args.copies} is not legal; use 1 or more')
  return choices


def write_images(
  draw: Callable[..., list[Any]],
  model: Any,
  input_sets: Sequence[Mapping[str, str]],
  texts: Sequence[str],
  output: str,
) -> None:
  """Writes a contact sheet of what the model makes of inputs."""
  from mmjax.data import contact_sheet

  cells = [cell for values in input_sets for cell in draw(model, values, texts)]
  with arguments.naming(f'--output={output}', 'write'):
    contact_sheet.render(cells, columns=3).save(output)
  print(output)


def write_sound(
  play: Callable[..., tuple[Any, int]],
  model: Any,
  inputs: Mapping[str, str],
  texts: Sequence[str],
  output: str,
) -> None:
  """Writes what the model makes of a set of inputs as a .wav file."""
  from mmjax.data import audio

  data = audio.encode_wave(*play(model, inputs, texts))
  with arguments.naming(f'--output={output}', 'write'):
    Path(output).write_bytes(data)
  print(output)
