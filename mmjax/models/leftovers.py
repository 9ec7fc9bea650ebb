"""Explains settings of one part of a model that another one left behind."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

from mmjax import presets
from mmjax.errors import ConfigError


def check(
  path: str,
  name: str,
  settings: Mapping[str, Any],
  classes: Mapping[str, type],
  list_settings: Callable[[type], Collection[str]],
  derived: Collection[str],
) -> None:
  """Refuses settings that only other classes of the same part have.

  As when `--config.model.image.name=vit` replaces the name alone in the
  section of a ResNet. Other mistakes are left to the caller.

  Args:
    path: path of the part, such as 'model.image'.
    name: name of the class that the config names.
    settings: the part's, without its name.
    classes: name -> class, of all classes of the part.
    list_settings: function from a class to the names of its settings.
    derived: settings that follow from the data, if the config lacks them.

  Raises:
    ConfigError: naming the settings and how to replace the section.
  """
  legal = {other: list_settings(cls) for other, cls in classes.items()}
  strange = [key for key in settings if key not in legal[name]]
  owners = [o for o, known in legal.items() if {*strange} <= {*known}]
  if not strange or not owners:
    return
  sizes = [n for n, preset in presets.PRESETS.items() if preset['name'] == name]
  ways = [f'--config.{path}={sizes[0]}'] if sizes and 'image' in path else []
  fields = ''.join(
    f', {field.name}=...'
    for field in dataclasses.fields(classes[name])
    if field.default is dataclasses.MISSING
    and field.name in {*legal[name]} - {*derived}
  )
  ways.append(f'--config.{path}="dict(name={name!r}{fields})"')
  raise ConfigError(
    f'{path}: {", ".join(strange)} {"do" if len(strange) > 1 else "does"} not '
    f'go with name={name!r}, but with {" or ".join(owners)}; to replace the '
    f'whole section: {" or ".join(ways)}'
  )
