"""Variants of a config, named behind its file: FILE.py:VARIANT,VARIANT."""

from mmjax.errors import ConfigError


def chosen(
  argument: str, *known: str, one_of: tuple[str, ...] = ()
) -> set[str]:
  """Variants that a config's argument names.

  Args:
    argument: text behind the colon, variants with commas between; '' for none.
    known: names of variants that can be combined.
    one_of: names of which exactly one must be there.

  Raises:
    ConfigError: naming an unknown variant, or the choice of `one_of`.

  >>> sorted(chosen('b16,runlocal', 'runlocal', one_of=('b16', 'l14')))
  ['b16', 'runlocal']
  """
  names = [name.strip() for name in argument.split(',') if name.strip()]
  legal = (*one_of, *known)
  unknown = [name for name in names if name not in legal]
  if unknown:
    raise ConfigError(
      f'argument {unknown[0]!r} is unknown; use {", ".join(legal)}, with a '
      'comma between several'
    )
  sizes = [name for name in names if name in one_of]
  if one_of and len(sizes) != 1:
    raise ConfigError(
      f'argument {argument!r} names {len(sizes) or "none"} of '
      f'{", ".join(one_of)}; name one, such as :{one_of[0]}'
    )
  return set(names)
