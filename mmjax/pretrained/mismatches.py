"""The error about a checkpoint that doesn't fit its config.json."""

import re
from collections.abc import Iterable, Mapping, Sequence

# How many of a long list an error shows.
MOST = 8
# Names of tensors that only a quantised file has.
_QUANTISED = re.compile(
  r'.*\.(qweight|qzeros|scales|g_idx|SCB|weight_scale(_inv)?|weight_format'
  r'|quant_state\..*|absmax|weight_packed|input_scale)'
)
_ADAPTER = re.compile(r'.*(lora_[AB]|lora_embedding_[AB]|lora_magnitude).*')
_LAYER = re.compile(r'.*\.(?:layers?|h|blocks?)\.(\d+)\..*')


def few(items: Iterable[str], separator: str = ', ') -> str:
  """The first of a list, and how many more there are.

  >>> few(map(str, range(10)))
  '0, 1, 2, 3, 4, 5, 6, 7 and 2 more'
  """
  listed = list(items)
  text = separator.join(listed[:MOST])
  if len(listed) <= MOST:
    return text
  gap = separator if '\n' in separator else ' '
  return f'{text}{gap}and {len(listed) - MOST} more'


def message(
  missing: Mapping[str, Sequence[int]],
  left: Sequence[str],
  shapes: Mapping[str, tuple[Sequence[int], Sequence[int]]],
  others: Sequence[str] = (),
) -> str:
  """The error about all that doesn't fit, with its likely cause.

  Args:
    missing: shapes by name, of tensors that the file lacks.
    left: names that the file has besides.
    shapes: by name, the shape in the file and that of the parameter.
    others: further lines.
  """
  groups = (
    list(others),
    [f'{name} {list(shape)} is missing' for name, shape in missing.items()],
    [
      f'{name} is {list(there)}, not {list(here)}'
      for name, (there, here) in shapes.items()
    ],
    [f'{name} is left over' for name in left],
  )
  lines = [few(group, '\n  ') for group in groups if group]
  text = 'the checkpoint does not fit its config.json:\n  ' + '\n  '.join(lines)
  why = cause(missing, left, shapes)
  return f'{text}\nProbably {why}' if why else text


def cause(
  missing: Mapping[str, Sequence[int]],
  left: Sequence[str],
  shapes: Mapping[str, tuple[Sequence[int], Sequence[int]]],
) -> str:
  """The likely cause, and what to do about it; '' if it is none of the known.

  Args:
    missing: see `message`.
    left: see `message`.
    shapes: see `message`.
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
  prefix = _prefix(missing, left)
  if prefix:
    return prefix
  deeper, shallower = map(_layers, (left, missing))
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
      'the output matrix is the embedding: then config.json should say '
      'tie_word_embeddings=true'
    )
  if shapes and not missing and not left:
    return 'config.json gives other sizes than the file; take both from one'
  return ''


def _prefix(missing: Iterable[str], left: Sequence[str]) -> str:
  """What to say if names differ only in what they begin with."""
  missing = sorted(missing)
  if not missing or not left:
    return ''
  for name in left:
    if name.endswith(f'.{missing[0]}'):
      prefix = name.removesuffix(missing[0])
      if all(prefix + one in left for one in missing):
        return (
          f'the names in the file begin with {prefix!r}, which mmjax does not '
          'know; rename them, or save the inner model'
        )
  return ''


def _layers(names: Iterable[str]) -> list[int]:
  """The numbers of the layers of names; none unless all are in layers."""
  found = [_LAYER.fullmatch(name) for name in names]
  return [int(one[1]) for one in found if one] if all(found) else []
