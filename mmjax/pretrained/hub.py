"""Where a model lies: a folder, or a name on the Hugging Face hub."""

import re
from pathlib import Path

# What a model needs; weights in other formats are left where they are.
_PATTERNS = ('*.json', '*.safetensors', '*.txt', '*/config.json')
_NAME = re.compile(r'[\w.-]+/[\w.-]+')


def find(source: Path | str) -> Path:
  """The folder of a model.

  Args:
    source: a folder, or a name such as 'openai/clip-vit-base-patch32', which
      is downloaded once, into the cache of huggingface_hub.

  Raises:
    FileNotFoundError: if there is neither.
    ImportError: if a download needs huggingface_hub, which is an extra.
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
  try:
    return Path(
      huggingface_hub.snapshot_download(source, allow_patterns=_PATTERNS)
    )
  except (OSError, huggingface_hub.errors.HfHubHTTPError) as error:
    raise FileNotFoundError(
      f'there is no folder {source}, and the Hugging Face hub gives no model '
      f'of this name ({type(error).__name__}); look for a typing error, and '
      'whether there is a network'
    ) from error
