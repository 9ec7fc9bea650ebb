"""Where a model lies: a folder, or a name on the Hugging Face hub."""

import re
from pathlib import Path
from typing import Any

from mmjax.errors import ConfigError
from mmjax.pretrained import (
  ctranslate2,
  sentence_steps,
  tensors,
  tokenizer_files,
)

# What a model needs beside its weights.
_SMALL = ('*.json', '*.txt', '*.jinja', *tokenizer_files.PIECES)
_SAFE = '*.safetensors'
_NAME = re.compile(r'[\w.-]+/[\w.-]+')


def find(source: Path | str) -> Path:
  """The folder of a model.

  Args:
    source: a folder, or a name such as 'openai/clip-vit-base-patch32', which
      is downloaded once, into the cache of huggingface_hub.

  Raises:
    ConfigError: if there is neither; if a download needs huggingface_hub, which
      is an extra; or if the hub has the weights only in pickles, or only as
      open_clip lays them out.
  """
  folder = Path(source)
  if folder.is_dir():
    return folder
  if folder.is_file():
    raise ConfigError(f'{source} is a file; give its folder')
  if isinstance(source, Path) or not _NAME.fullmatch(source):
    raise ConfigError(
      f'there is no folder {source}; give that of a model, or a name on the '
      "Hugging Face hub such as 'openai/clip-vit-base-patch32'"
    )
  try:
    import huggingface_hub
  except ImportError as error:
    raise ConfigError(
      f'there is no folder {source}; to download the model of this name, '
      "install the extra `hub`: pip install -e '.[hub]' where mmjax lies"
    ) from error
  weights, pickles = _weights(huggingface_hub, source)
  try:
    folder = Path(
      huggingface_hub.snapshot_download(
        source, allow_patterns=[*_SMALL, *weights]
      )
    )
  except (OSError, huggingface_hub.errors.HfHubHTTPError) as error:
    raise ConfigError(
      f'there is no folder {source}, and the Hugging Face hub gives no model '
      f'of this name ({type(error).__name__}); look for a typing error, and '
      'whether there is a network'
    ) from error
  if pickles:
    raise tensors.pickled(source, pickles, folder)
  return folder


def _weights(hub: Any, name: str) -> tuple[list[str], list[str]]:
  """Which weights to download, and the pickles where there are no others."""
  try:
    names = set(hub.list_repo_files(name))
    within = _within(hub, name) if sentence_steps.FILE in names else ''
  except ConfigError:
    raise
  except Exception:
    # What is in the cache needs no network, and else the download tells why.
    return [_SAFE], []
  for config in tensors.OPEN_CLIP:
    if config in names and 'config.json' not in names:
      raise tensors.of_open_clip(name, config)
  if not names.isdisjoint({within + tensors.FILE, within + tensors.INDEX}):
    return [within + _SAFE], []
  if ctranslate2.FILE in names and not names.isdisjoint(
    ctranslate2.VOCABULARIES
  ):
    return [ctranslate2.FILE], []
  pickles = re.compile(re.escape(within) + r'[^/]*\.bin')
  return [], sorted(n for n in names if pickles.fullmatch(n))


def _within(hub: Any, name: str) -> str:
  """What the names of a sentence encoder's weights begin with."""
  modules = Path(hub.hf_hub_download(name, sentence_steps.FILE)).read_bytes()
  try:
    path = sentence_steps.model_path(modules)
  except ConfigError as error:
    raise ConfigError(f'{name}: {error}') from error
  return f'{path}/' if path else ''


def is_run(folder: Path) -> bool:
  """Whether a folder is a run's, rather than that of a published model."""
  return (folder / 'preprocess.json').exists()
