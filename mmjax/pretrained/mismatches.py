"""The error about a checkpoint that doesn't fit its config.json."""

import re
from collections.abc import Iterable, Mapping, Sequence

# Most items of a list that an error shows.
MOST = 8
# Names of tensors that only quantised files have.
_QUANTISED = re.compile(
  r'.*\.(qweight|qzeros|scales|g_idx|SCB|weight_scale(_inv)?|weight_format'
  r'|quant_state\..*|absmax|weight_packed|input_scale)'
)
_ADAPTER = re.compile(r'.*(lora_[AB]|lora_embedding_[AB]|lora_magnitude).*')
_LAYER = re.compile(r'.*\.(?:layers?|h|blocks?)\.(\d+)\..*')


def shorten(items: Iterable[str], separator: str = ', ') -> str:
  """Joins the first items of a list, and says how many more there are.

  >>> shorten(map(str, range(10)))
  '0, 1, 2, 3, 4, 5, 6, 7 and 2 more'
  """
  strings = list(items)
  text = separator.join(strings[:MOST])
  if len(strings) <= MOST:
    return text
  gap = separator if '\n' in separator else ' '
  return f'{text}{gap}and {len(strings) - MOST} more'


def message(
  missing: Mapping[str, Sequence[int]],
  left: Sequence[str],
  shapes: Mapping[str, tuple[Sequence[int], Sequence[int]]],
  others: Sequence[str] = (),
) -> str:
  """The message about all mismatches, with their likely cause.

  Args:
    missing: name -> shape of tensors that the file lacks.
    left: names of tensors in the file that no parameter needs.
    shapes: name -> shape in the file, shape of the parameter.
    others: further lines.
  """
  groups = (
    list(others),
    [f'{name} {list(shape)} is missing' for name, shape in missing.items()],
    [
      f'{name} is {list(stored)}, not {list(wanted)}'
      for name, (stored, wanted) in shapes.items()
    ],
    [f'{name} is left over' for name in left],
  )
  lines = [shorten(group, '\n  ') for group in groups if group]
  text = 'the checkpoint does not fit its config.json:\n  ' + '\n  '.join(lines)
  why = find_cause(missing, left, shapes)
  return f'{text}\nProbably {why}' if why else text


def find_cause(
  missing: Mapping[str, Sequence[int]],
  left: Sequence[str],
  shapes: Mapping[str, tuple[Sequence[int], Sequence[int]]],
) -> str:
  """Finds the likely cause, and its fix; '' if it is unknown.

  Args:
    missing: name -> shape of tensors that the file lacks.
    left: names of tensors in the file that no parameter needs.
    shapes: name -> shape in the file, shape of the parameter.
  """
  if any(_ADAPTER.fullmatch(name) for name in left):
    return (
      'these are the tensors of an adapter (LoRA); merge it into its base '
      'model with peft: merge_and_unload().save_pretrained(OUT)'
    )
  if any(_QUANTISED.fullmatch(name) for name in left):
    return (
      'the file is quantised, which mmjax does not read; take the original '
      'weights in float32, float16 or bfloat16'
    )
  prefix = _find_prefix(missing, left)
  if prefix:
    return prefix
  deeper, shallower = map(_layer_numbers, (left, missing))
  if deeper and not missing:
    return (
      f'the file has layers up to {max(deeper)}, more than config.json says; '
      'take both from one model'
    )
  if shallower and not left and min(shallower) > 0:
    return (
      f'the file ends before layer {min(shallower)}; take it and config.json '
      'from one model, or download all shards'
    )
  if list(missing) == ['lm_head.weight']:
    return (
      'the file has no output matrix: take a checkpoint of the model that '
      'writes, such as LlamaForCausalLM, or, if the embedding is that matrix, '
      'set tie_word_embeddings=true in config.json'
    )
  if shapes and not missing and not left:
    return 'config.json gives other sizes than the file; take both from one'
  return ''


def _find_prefix(missing: Iterable[str], left: Sequence[str]) -> str:
  """The cause if names differ only by a prefix; else ''."""
  missing = sorted(missing)
  if not missing or not left:
    return ''
  for name in left:
    if name.endswith(f'.{missing[0]}'):
      prefix = name.removesuffix(missing[0])
      if all(prefix + name in left for name in missing):
        return (
          f'the names in the file begin with {prefix!r}, which mmjax does not '
          'know; rename them, or save the inner model'
        )
  return ''


def _layer_numbers(names: Iterable[str]) -> list[int]:
  """Numbers of the layers in names; empty unless all names have one."""
  matches = [_LAYER.fullmatch(name) for name in names]
  return [int(match[1]) for match in matches if match] if all(matches) else []
