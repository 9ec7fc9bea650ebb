"""Tokenizers of published models without a tokenizer.json, for training.

A config names its tokenizer by a file. This is built from the model's older
files, and kept in the cache under a name that depends on these alone.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmjax.data import chat_templates
from mmjax.errors import ConfigError
from mmjax.pretrained import (
  configs,
  gguf_file,
  sentence_steps,
  special_tokens,
  tokenizer_files,
  tokenizer_settings,
)
from mmjax.runs import metric_writers


def write(files: Mapping[str, bytes], config: Mapping[str, Any]) -> Path:
  """Builds a tokenizer and writes it to the cache, unless it is there.

  Args:
    files: small files of the model's folder by name.
    config: all of its config.json.

  Returns:
    Path of the tokenizer.json. The model's tokenizer_config.json and its chat
    templates, if it has any, are beside it.

  Raises:
    ConfigError: if files are missing or broken, or the class of the tokenizer
      is one that mmjax can't build.
  """
  tokenizer = tokenizer_files.build(files, config)
  named = tokenizer_settings.FILE
  tokenizer_settings.apply(
    tokenizer, configs.parse(files.get(named, b'{}'), named)
  )
  built = {**files, tokenizer_files.FILE: tokenizer.to_str().encode()}
  return _keep(built, _hash(files, config))


def _keep(files: Mapping[str, bytes], digest: Any) -> Path:
  """Writes a tokenizer.json and its settings, if any, to the cache."""
  folder = _cache() / digest.hexdigest()[:16]
  folder.mkdir(parents=True, exist_ok=True)
  for name in (tokenizer_settings.FILE, tokenizer_files.FILE):
    if name in files:
      metric_writers.replace(folder / name, files[name].decode())
  for name in chat_templates.list_files(files):
    (folder / name).parent.mkdir(exist_ok=True)
    metric_writers.replace(folder / name, files[name].decode())
  return folder / tokenizer_files.FILE


def _cache() -> Path:
  folder = os.environ.get('MMJAX_CACHE_DIR')
  return Path(folder or Path.home() / '.cache/mmjax') / 'tokenizers'


def _hash(files: Mapping[str, bytes], config: Mapping[str, Any]) -> Any:
  """Depends on what the tokenizer is built from; equal on all hosts."""
  names = {*tokenizer_files.VOCABULARIES, *special_tokens.FILES}
  names |= set(chat_templates.list_files(files))
  digest = hashlib.sha256(str(config.get('model_type')).encode())
  for name in sorted(names & files.keys()):
    digest.update(f'{name} {len(files[name])} '.encode() + files[name])
  return digest


def find(
  folder: Path, config: Mapping[str, Any], small: Mapping[str, bytes]
) -> tuple[Path | None, str]:
  """Finds the file of a published model's tokenizer, or writes one.

  Args:
    folder: the model's folder.
    config: its config.json.
    small: its other small files by name.

  Returns:
    The file, None if there is none; and why an older tokenizer's files make
    none.
  """
  if gguf_file.is_model(folder):
    return _keep(small, hashlib.sha256(small[tokenizer_files.FILE])), ''
  if tokenizer_files.FILE in small:
    return sentence_steps.model_folder(folder) / tokenizer_files.FILE, ''
  if small.keys().isdisjoint(tokenizer_files.VOCABULARIES):
    return None, ''
  try:
    return write(small, config), ''
  except ConfigError as error:
    return None, str(error)
