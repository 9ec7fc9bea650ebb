"""Finds a model: a folder, a file, or a name on the Hugging Face hub."""

import re
import socket
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from mmjax.errors import ConfigError, suggest_folder
from mmjax.pretrained import (
  ctranslate2,
  gguf_file,
  sentence_steps,
  tensors,
  tokenizer_files,
)

# Files that a model needs beside its weights.
_SMALL = ('*.json', '*.txt', '*.jinja', *tokenizer_files.PIECES)
_SAFE = '*.safetensors'
_SECONDS = 5  # To wait for a connection to the hub.
_NAME = re.compile(r'[\w.-]+/[\w.-]+')


def find(source: Path | str) -> Path:
  """Finds the folder of a model, downloading it if need be.

  Args:
    source: a folder, a GGUF file, or a name such as
      'openai/clip-vit-base-patch32', which is downloaded once, into the cache
      of huggingface_hub.

  Raises:
    ConfigError: if there is neither; if a download needs huggingface_hub, which
      is an extra; or if the hub has the weights only in pickles, or only in the
      format of open_clip.
  """
  folder = find_local(source)
  if folder is not None:
    return folder
  import huggingface_hub

  weights, pickles = _find_weights(huggingface_hub, source)
  try:
    folder = Path(
      huggingface_hub.snapshot_download(
        source, allow_patterns=[*_SMALL, *weights]
      )
    )
  except (OSError, huggingface_hub.errors.HfHubHTTPError) as error:
    raise ConfigError(
      f'there is no folder {source}, and the Hugging Face hub gives no model '
      f'of this name ({type(error).__name__}); check the network, and the name'
      f'{suggest_folder(source)}'
    ) from None
  if pickles:
    raise tensors.pickle_error(source, pickles, folder)
  return folder


def find_local(source: Path | str) -> Path | None:
  """Finds the folder of a model that is here; None if the hub may have it.

  Args:
    source: source, as in `find`.

  Raises:
    ConfigError: if there is none, and it can't be downloaded.
  """
  folder = Path(source)
  if folder.is_dir():
    return folder
  if gguf_file.is_model(folder):
    return folder
  if folder.is_file():
    raise ConfigError(f'{source} is a file; give its folder')
  meant = suggest_folder(folder)
  if isinstance(source, Path) or not _NAME.fullmatch(source):
    way_out = meant or (
      '; give that of a model, or a name on the Hugging Face hub such as '
      "'openai/clip-vit-base-patch32'"
    )
    raise ConfigError(f'there is no folder {source}{way_out}')
  try:
    import huggingface_hub
    from huggingface_hub import constants
  except ImportError as error:
    raise ConfigError(
      f'there is no folder {source}; to download the model of this name, '
      "install the extra `hub`: pip install -e '.[hub]' in the folder of mmjax"
      f'{meant}'
    ) from error
  if is_reachable(constants.ENDPOINT):
    return None
  return _find_cached(huggingface_hub, source, constants.ENDPOINT)


def is_reachable(endpoint: str) -> bool:
  """Whether a connection to a server can be made; not tried with a proxy.

  The client of the hub would repeat its requests for half a minute.
  """
  if urllib.request.getproxies():
    return True
  url = urllib.parse.urlsplit(endpoint)
  port = url.port or (80 if url.scheme == 'http' else 443)
  try:
    socket.create_connection((url.hostname, port), _SECONDS).close()
  except OSError:
    return False
  return True


def _find_cached(hub: Any, name: str, endpoint: str) -> Path:
  """The folder of a model that was downloaded before.

  Raises:
    ConfigError: if it was not.
  """
  try:
    return Path(hub.snapshot_download(name, local_files_only=True))
  except OSError:
    raise ConfigError(
      f'there is no folder {name}, and {endpoint} cannot be reached to '
      'download a model of this name; check the path, or the network'
      f'{suggest_folder(name)}'
    ) from None


def _find_weights(hub: Any, name: str) -> tuple[list[str], list[str]]:
  """Patterns of weights to download, and pickles if there are no others."""
  try:
    names = set(hub.list_repo_files(name))
    steps = _read_steps(hub, name) if sentence_steps.FILE in names else []
  except ConfigError:
    raise
  except Exception:
    # A model in the cache needs no network; otherwise the download raises.
    return [_SAFE], []
  prefix = f'{steps[0].path}/' if steps and steps[0].path else ''
  layers = [s.weights for s in steps if s.kind == sentence_steps.DENSE]
  for config in tensors.OPEN_CLIP:
    if config in names and 'config.json' not in names:
      raise tensors.open_clip_error(name, config)
  if any(prefix + name in names for name in tensors.list_names()):
    return [prefix + _SAFE, *layers], []
  if ctranslate2.FILE in names and not names.isdisjoint(
    ctranslate2.VOCABULARIES
  ):
    return [ctranslate2.FILE], []
  pickles = re.compile(re.escape(prefix) + r'[^/]*\.bin')
  return [], sorted(n for n in names if pickles.fullmatch(n))


def _read_steps(hub: Any, name: str) -> list[sentence_steps.Step]:
  """The steps of a sentence encoder on the hub."""
  modules = Path(hub.hf_hub_download(name, sentence_steps.FILE)).read_bytes()
  try:
    return sentence_steps.parse(modules)
  except ConfigError as error:
    raise ConfigError(f'{name}: {error}') from error


def refuse_run_settings(source: Path | str, **settings: Any) -> None:
  """Refuses what only a run needs, where a published model is opened.

  Args:
    source: the model, as the user wrote it.
    **settings: how a run is opened, such as its experiment file.

  Raises:
    ConfigError: naming the first that isn't None.
  """
  for name, value in settings.items():
    if value is not None:
      raise ConfigError(
        f'{name}={value!r} is for runs, and {source} is a published model; '
        'leave it out'
      )


def is_run(folder: Path) -> bool:
  """Whether a folder is a run's, rather than that of a published model."""
  return (folder / 'preprocess.json').exists()
