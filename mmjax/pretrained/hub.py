"""Where a model lies: a folder, or a name on the Hugging Face hub."""

import re
from pathlib import Path
from typing import Any

from mmjax.pretrained import ctranslate2, tensors, tokenizer_files

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
    FileNotFoundError: if there is neither.
    ImportError: if a download needs huggingface_hub, which is an extra.
    ValueError: if the hub has the weights only in pickles.
  """
  folder = Path(source)
  if folder.is_dir():
    return folder
  if folder.is_file():
    raise FileNotFoundError(f'{source} is a file; give its folder')
  if isinstance(source, Path) or not _NAME.fullmatch(source):
    raise FileNotFoundError(
      f'there is no folder {source}; give that of a model, or a name on the '
      "Hugging Face hub such as 'openai/clip-vit-base-patch32'"
    )
  try:
    import huggingface_hub
  except ImportError as error:
    raise ImportError(
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
    raise FileNotFoundError(
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
  except Exception:
    # What is in the cache needs no network, and else the download tells why.
    return [_SAFE], []
  if not names.isdisjoint({tensors.FILE, tensors.INDEX}):
    return [_SAFE], []
  if ctranslate2.FILE in names and not names.isdisjoint(
    ctranslate2.VOCABULARIES
  ):
    return [ctranslate2.FILE], []
  return [], sorted(n for n in names if re.fullmatch(r'[^/]*\.bin', n))
