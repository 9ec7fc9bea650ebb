"""The steps of a sentence encoder, and where their files are.

sentence-transformers lists them in modules.json, each with its folder. Older
releases write the model itself to `0_Transformer`, newer ones beside the list.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from mmjax.errors import ConfigError
from mmjax.pretrained import configs

FILE = 'modules.json'
PROMPTS = 'config_sentence_transformers.json'
SETTINGS = 'sentence_bert_config.json'
# Its names for other kinds of models, in the order of the search.
_SETTINGS = (
  SETTINGS,
  'sentence_roberta_config.json',
  'sentence_distilbert_config.json',
  'sentence_camembert_config.json',
  'sentence_albert_config.json',
  'sentence_xlm-roberta_config.json',
  'sentence_xlnet_config.json',
)
_CONFIG = 'config.json'
_WEIGHTS = 'model.safetensors'
_MODEL = 'Transformer'
DENSE, NORMALIZE = 'Dense', 'Normalize'
_KNOWN = re.compile(f'{_MODEL} Pooling( {DENSE})*( {NORMALIZE})?')
# Classes outside of this package are code in the folder.
_PACKAGE = 'sentence_transformers.'


@dataclasses.dataclass(frozen=True)
class Step:
  """One entry of modules.json.

  Attributes:
    kind: name of its class.
    path: its folder inside the model's folder; '' for the model's folder.
    entry: the entry itself.
  """

  kind: str
  path: str
  entry: Mapping[str, Any]

  @property
  def config(self) -> str:
    """Path of the file with its settings."""
    return str(PurePosixPath(self.path) / _CONFIG)

  @property
  def weights(self) -> str:
    """Path of the file with its tensors."""
    return str(PurePosixPath(self.path) / _WEIGHTS)


def parse(content: bytes) -> list[Step]:
  """Parses a modules.json: Transformer, Pooling, any Dense, then Normalize.

  Raises:
    ConfigError: if the file is broken, has other steps or another order, or a
      path leads out of the model's folder or to the files of another step.
  """
  entries = configs.parse(content, FILE, list)
  if not all(isinstance(entry, dict) for entry in entries):
    raise ConfigError(f'{FILE}: its steps are not objects; download it again')
  kinds = [str(entry.get('type')) for entry in entries]
  names = [
    kind.rpartition('.')[2] if kind.startswith(_PACKAGE) else kind
    for kind in kinds
  ]
  if not _KNOWN.fullmatch(' '.join(names)):
    raise ConfigError(
      f'{FILE}: the steps are {", ".join(names)}; mmjax knows Transformer, '
      'Pooling, then any Dense, then Normalize or not. To open the '
      'model alone, whose vectors are then not those of sentences, give the '
      f'folder of the first step, without {FILE}'
    )
  paths = [
    _read_path(entry, name) for entry, name in zip(entries, names, strict=True)
  ]
  for name, path in zip(names[1:], paths[1:], strict=True):
    if path in ('', paths[0]):
      raise ConfigError(
        f'{FILE}: the path of {name} is {path!r}, which is that of the model; '
        'take the published value'
      )
  return [
    Step(name, path, entry)
    for name, path, entry in zip(names, paths, entries, strict=True)
  ]


def _read_path(entry: Mapping[str, Any], name: str) -> str:
  entry_path = entry.get('path')
  path = PurePosixPath(entry_path) if isinstance(entry_path, str) else None
  if path is None or path.is_absolute() or '..' in path.parts:
    raise ConfigError(
      f'{FILE}: the path of {name} is {entry_path!r}, not a folder inside the '
      "model's; take the published value"
    )
  return '' if path == PurePosixPath() else str(path)


def model_path(content: bytes) -> str:
  """Folder of the model in a modules.json; '' if it is beside the file.

  Raises:
    ConfigError: if the file is broken, or has steps that mmjax doesn't know.
  """
  return parse(content)[0].path


def model_folder(folder: Path) -> Path:
  """Folder with a model's config.json, weights and tokenizer.

  Args:
    folder: folder of a model, which is returned if it has no modules.json.

  Raises:
    ConfigError: if modules.json is broken, or has unknown steps.
  """
  if not (folder / FILE).is_file():
    return folder
  return folder / model_path((folder / FILE).read_bytes())


def read(folder: Path) -> dict[str, bytes]:
  """Reads the small files of a sentence encoder by name; {} for other models.

  Names are those of the newer layout: the first step has the path ''.

  Raises:
    ConfigError: if modules.json is broken, or has unknown steps.
  """
  if not (folder / FILE).is_file():
    return {}
  content = (folder / FILE).read_bytes()
  steps = parse(content)
  home = folder / steps[0].path
  if steps[0].path:
    entries = [{**steps[0].entry, 'path': ''}, *(s.entry for s in steps[1:])]
    content = json.dumps(entries, indent=2).encode()
  files = {FILE: content}
  names = [PROMPTS, *(step.config for step in steps[1:])]
  layers = [step.weights for step in steps if step.kind == DENSE]
  for name in layers:
    if not (folder / name).is_file():
      raise ConfigError(
        f'{FILE} has the step {DENSE}, but there is no {name}; put the '
        'published one there, or write it from a pickle with '
        'sentence-transformers: '
        'SentenceTransformer(IN).save_pretrained(OUT)'
      )
  names += layers
  for name in names:
    if (folder / name).is_file():
      files[name] = (folder / name).read_bytes()
  for name in _SETTINGS:
    if (home / name).is_file():
      return {**files, SETTINGS: (home / name).read_bytes()}
  return files
