"""Runs chat templates: Jinja in a sandbox, with the names of transformers."""

import datetime
import functools
import json
from collections.abc import Mapping
from typing import Any

import jinja2
from jinja2 import ext, nodes, sandbox, utils

# What surrounds a `{% generation %}` block while its place is looked for: two
# code points that Unicode reserves for such use within a program.
OPENING, CLOSING = '\ufdd0', '\ufdd1'
_MARKS = 'marks_generation'


class _Generation(ext.Extension):
  """`{% generation %}`, around what the assistant writes."""

  tags = frozenset({'generation'})

  def parse(self, parser: Any) -> nodes.Node:
    line = next(parser.stream).lineno
    body = parser.parse_statements(['name:endgeneration'], drop_needle=True)
    call = self.call_method('surround', [nodes.ContextReference()])
    return nodes.CallBlock(call, [], [], body).set_lineno(line)

  @staticmethod
  def surround(context: Any, caller: Any) -> str:
    """The block's text, between marks where they are asked for."""
    text = caller()
    return f'{OPENING}{text}{CLOSING}' if context.get(_MARKS) else text


class _Namespace(utils.Namespace):
  """Jinja's namespace without names of Python's own."""

  def __init__(*args: Any, **kwargs: Any):
    self, *rest = args
    values = dict(*rest, **kwargs)
    for name in values:
      _check_name(name)
    utils.Namespace.__init__(self, values)

  def __setitem__(self, name: str, value: Any) -> None:
    _check_name(name)
    utils.Namespace.__setitem__(self, name, value)


def _check_name(name: str) -> None:
  if name.startswith('_'):
    raise jinja2.exceptions.SecurityError(
      f'a namespace cannot have the attribute {name!r}'
    )


def _make_dict(*args: Any, **kwargs: Any) -> dict[str, Any]:
  return dict(*args, **kwargs)


def _raise_exception(message: str) -> None:
  raise jinja2.exceptions.TemplateError(message)


def _to_json(
  value: Any,
  ensure_ascii: bool = False,
  indent: int | None = None,
  separators: tuple[str, str] | None = None,
  sort_keys: bool = False,
) -> str:
  """JSON without the escapes for HTML of Jinja's own filter."""
  return json.dumps(
    value,
    ensure_ascii=ensure_ascii,
    indent=indent,
    separators=separators,
    sort_keys=sort_keys,
  )


@functools.lru_cache(maxsize=32)
def compile_template(source: str) -> jinja2.Template:
  """Compiles a template.

  Raises:
    jinja2.TemplateSyntaxError: if it is not Jinja.
  """
  environment = sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=[_Generation, ext.loopcontrols],
  )
  environment.filters['tojson'] = _to_json
  environment.globals |= {
    'dict': _make_dict,
    'namespace': _Namespace,
    'raise_exception': _raise_exception,
  }
  return environment.from_string(source)


def render(
  source: str,
  variables: Mapping[str, Any],
  *,
  now: datetime.datetime | None = None,
  marks: bool = False,
) -> str:
  """Renders a template.

  Args:
    source: the template.
    variables: what it can name; plain JSON values only.
    now: the time that `strftime_now` writes; None for that of the clock.
    marks: whether `{% generation %}` blocks stand between `OPENING` and
      `CLOSING`.

  Raises:
    Exception: whatever the template raises; `jinja2.TemplateError` for its own
      `raise_exception`.
  """

  def strftime_now(form: str) -> str:
    return (now or datetime.datetime.now()).strftime(form)

  return compile_template(source).render(
    strftime_now=strftime_now, **{_MARKS: marks}, **variables
  )
