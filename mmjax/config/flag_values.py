"""What a flag's text means for a config field."""

import ast
from typing import Any

from mmjax.config import fields

_FALSE, _TRUE = ('false', 'f', '0', 'no'), ('true', 't', '1', 'yes')


def read(text: str, field: fields.Field) -> Any:
  """The value that a flag's text means for a field of this kind.

  A text that is not a value of the field is returned as it is, for
  `field.accepts` to refuse.
  """
  if field.kind == 'bool':
    lower = text.lower()
    return lower in _TRUE if lower in _TRUE + _FALSE else text
  if field.optional and text == 'None':
    return None
  if field.kind == 'str':
    return text
  try:
    value = _literal(text)
  except (ValueError, SyntaxError):
    if text.lower() in ('true', 'false'):
      return text.lower() == 'true'
    value = tuple(text.split(',')) if field.kind == 'strings' else text
  if field.kind == 'strings' and isinstance(value, str):
    value = (value,)
  if field.kind == 'float' and type(value) is int:
    value = float(value)
  return value


def write(value: Any) -> str:
  """The text of a flag that `read` takes for a value of a config.json.

  Lists are those that JSON has for tuples.

  >>> write([1, 'a'])
  "(1, 'a')"
  >>> write('shapes')
  'shapes'
  """
  return value if isinstance(value, str) else repr(_tuples(value))


def _tuples(value: Any) -> Any:
  if isinstance(value, list):
    return tuple(map(_tuples, value))
  if isinstance(value, dict):
    return {name: _tuples(child) for name, child in value.items()}
  return value


class _Dicts(ast.NodeTransformer):
  """Turns dict(a=1), as config files write it, into {'a': 1}."""

  def visit_Call(self, node: ast.Call) -> ast.AST:
    self.generic_visit(node)
    is_dict = isinstance(node.func, ast.Name) and node.func.id == 'dict'
    if not is_dict or node.args or any(k.arg is None for k in node.keywords):
      raise ValueError('only dict(name=value) can be called in a flag')
    return ast.Dict(
      keys=[ast.Constant(keyword.arg) for keyword in node.keywords],
      values=[keyword.value for keyword in node.keywords],
    )


def _literal(text: str) -> Any:
  """The Python literal that a text spells; dict(a=1) is one too."""
  tree = _Dicts().visit(ast.parse(text.strip(), mode='eval'))
  return ast.literal_eval(ast.fix_missing_locations(tree))
