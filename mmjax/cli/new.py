"""`mmjax new`: writes a project to start from."""

from importlib import resources
from pathlib import Path

from mmjax.cli import arguments
from mmjax.errors import ConfigError

# Stands for the project's name in the files.
_NAME = 'PROJECT'


def main(argv: list[str]) -> int:
  """Writes a folder with an experiment, a config, a sweep and a test.

  Raises:
    ConfigError: if the folder exists and is not empty, or can't be written.
  """
  parser = arguments.Parser(
    prog='mmjax new',
    description='Write a folder with an experiment of your own, its config, a '
    'sweep, a test, and a README.md with the commands.',
  )
  parser.add_argument('folder', metavar='FOLDER', help='folder to make')
  folder = Path(parser.parse_args(argv).folder)
  if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
    raise ConfigError(f'{folder} exists already; choose another folder')
  with arguments.naming(str(folder), 'write'):
    folder.mkdir(parents=True, exist_ok=True)
    for file in _list_files():
      text = file.read_text().replace(_NAME, folder.resolve().name)
      (folder / file.name).write_text(text)
  print(
    f'{folder}: an experiment, its config, a sweep and a test\n\n'
    f'  cd {folder}\n'
    '  python experiment.py --config=config.py:tiny --workdir=runs/tiny\n\n'
    f'{folder / "README.md"} has the other commands'
  )
  return 0


def _list_files() -> list:
  """The files of a new project."""
  folder = resources.files('mmjax.cli') / 'project'
  files = [file for file in folder.iterdir() if file.is_file()]
  return sorted(files, key=lambda file: file.name)
