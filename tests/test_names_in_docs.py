"""What docs and docstrings name exists.

Placeholders are in capitals, as in `configs/NAME.py`.
"""

import ast
import configparser
import importlib
import re
from pathlib import Path

import pytest

from mmjax import tasks
from mmjax.cli import main
from mmjax.config import schema
from mmjax.data import features

ROOT = Path(__file__).parents[1]
PAGES = [
  *(ROOT / name for name in ('README.md', 'README.zh.md', 'CHANGELOG.md')),
  *sorted((ROOT / 'docs').glob('*.md')),
]
SOURCES = [
  path
  for folder in ('mmjax', 'experiments', 'configs', 'benchmarks')
  for path in sorted((ROOT / folder).rglob('*.py'))
]
# Flags of other programs that pages name.
OTHERS = {'array', 'help', 'logdir', 'no-deps'}

_PATH = re.compile(
  r'(?<![\w/.\-])((?:mmjax|docs|configs|experiments|tests|benchmarks|launch)'
  r'/[\w./\-]*\w)'
)
_MODULE = re.compile(r'(?<![\w./\-])((?:mmjax|experiments)(?:\.\w+)+)')
_FIELD = re.compile(rf'`({"|".join(schema.SECTIONS)})\.(\w+)(?:=[^`]*)?`')
_OVERRIDE = re.compile(r'--config\.(\w+)(?:\.(\w+))?')
_FLAG = re.compile(r'(?<![\w\-])--([a-z]\w*(?:-\w+)*)')
_CODE = re.compile(
  r'^ *```\w*\n(.*?)^ *```|`([^`]+)`', re.DOTALL | re.MULTILINE
)
_COMMAND = re.compile(r'(?:^|\s)(?<!from )mmjax ([a-z][\w\-]*)')


def _text(path):
  """A page; of code, its docstrings."""
  if path.suffix == '.md':
    return path.read_text()
  kinds = ast.Module, ast.FunctionDef, ast.ClassDef
  return '\n'.join(
    ast.get_docstring(node) or ''
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, kinds)
  )


def _is_placeholder(name):
  return re.search(r'(?<![a-zA-Z])[A-Z]{2,}', name)


def _is_attribute(owner, name):
  return hasattr(owner, name) or name in {
    *getattr(owner, '__dataclass_fields__', ()),
    *getattr(owner, '__annotations__', ()),
  }


def _is_there(dotted):
  """Whether a module, or what it holds, can be reached by its name."""
  parts = dotted.split('.')
  for end in range(len(parts), 0, -1):
    try:
      owner = importlib.import_module('.'.join(parts[:end]))
    except ModuleNotFoundError:
      continue
    for name in parts[end:]:
      if not _is_attribute(owner, name):
        return False
      owner = getattr(owner, name, None)
    return True
  return False


def _flags():
  """All short strings of the code: names of flags are among them."""
  return {
    node.value.lstrip('-')
    for path in SOURCES + sorted((ROOT / 'tests').rglob('*.py'))
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.Constant) and isinstance(node.value, str)
    if re.fullmatch(r'(--)?[a-z][\w\-]*', node.value)
  }


@pytest.mark.parametrize('kind', ['paths', 'modules', 'fields'])
def test_what_is_named_exists(kind):
  wrong = set()
  for path in PAGES + SOURCES:
    text = _text(path)
    if kind == 'paths':
      for name in _PATH.findall(text):
        found = (ROOT / name).exists() or any(ROOT.glob(f'{name}*'))
        if not found and not _is_placeholder(name):
          wrong.add((path.name, name))
    elif kind == 'modules':
      wrong |= {
        (path.name, name)
        for name in _MODULE.findall(text)
        if not _is_placeholder(name) and not _is_there(name)
      }
    else:
      for section, name in [*_FIELD.findall(text), *_OVERRIDE.findall(text)]:
        known = {'md', 'py', *schema.SECTIONS.get(section, ())}
        is_open = section in (*schema.OPEN_SECTIONS, 'a', *schema.TOP)
        if not is_open and name not in known and not _is_placeholder(section):
          wrong.add((path.name, f'{section}.{name}'))
  assert not wrong


def test_flags_and_commands_of_the_pages_exist():
  flags, wrong = _flags() | OTHERS, set()
  for path in PAGES:
    text = path.read_text()
    wrong |= {
      (path.name, f'--{flag}')
      for flag in _FLAG.findall(text)
      if flag not in flags and flag.removeprefix('no') not in flags
    }
    code = '\n'.join(''.join(pair) for pair in _CODE.findall(text))
    wrong |= {
      (path.name, f'mmjax {command}')
      for command in _COMMAND.findall(code)
      if command not in main.COMMANDS
    }
  assert not wrong


def test_the_layers_of_the_docs_are_those_that_are_checked():
  config = configparser.ConfigParser()
  config.read(ROOT / 'setup.cfg')
  checked = config['importlinter:contract:layers']['layers']
  page = (ROOT / 'docs/architecture.md').read_text()
  shown = page.partition('## Layers')[2].partition('\n| folder')[0]
  layers = re.findall(r'^    (?:  > )?(\S.*)$', shown, re.MULTILINE)
  assert layers == checked.strip().replace('mmjax.', '').splitlines()


def test_the_readme_names_every_extra():
  config = configparser.ConfigParser()
  config.read(ROOT / 'setup.cfg')
  named = (ROOT / 'README.md').read_text().partition('Extras: ')[2]
  named = re.findall(r'`(\w+)`', named.partition('for example')[0])
  # That of `make test-oracles` alone.
  assert {*named} == {*config['options.extras_require']} - {'oracles'}


def test_the_docs_describe_every_kind_of_field_and_task():
  for page, section, names in (
    ('data.md', '## Kinds of fields', features.KINDS),
    ('multimodal.md', '## Tasks', tasks.TASKS),
  ):
    text = (ROOT / 'docs' / page).read_text().partition(section)[2]
    first = re.findall(r'^\| (`.+?`) \|', text, re.MULTILINE)
    listed = set(re.findall(r'`(\w+)`', ' '.join(first)))
    assert set(names) <= listed, page
