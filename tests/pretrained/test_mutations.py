"""Files that are changed at random end in a result, or an error by name."""

import os
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.pretrained import base, checkpoint, families, tensors
from tests import mutations
from tests.pretrained import older_tokenizers, test_tokenizer_files

GOLDEN = Path(__file__).parent / 'golden'
NUMBER = int(os.environ.get('MMJAX_MUTATIONS', 200))
FILES = {
  tensors.FILE: ('bert', 'gpt2', 'llama'),
  'config.json': tuple(
    p.name for p in sorted(GOLDEN.iterdir()) if p.name != 'whisper_ctranslate2'
  ),
  tensors.INDEX: ('llama', 'clip'),
  base.TOKENIZER: ('bert', 'gpt2', 'siglip2', 't5'),
}
# Files of tokenizers that have no tokenizer.json.
OLDER = {
  'added_tokens.json': ('gpt2, mapped', 'whisper'),
  'merges.txt': ('clip', 'qwen2'),
  'special_tokens_map.json': ('gpt2, mapped',),
  'spiece.model': ('t5',),
  'tokenizer.model': ('llama', 'llava', 'paligemma'),
  'tokenizer_config.json': ('opt', 'bert, as written', 't5, few gaps'),
  'vocab.json': ('gpt2', 'clip'),
  'vocab.txt': ('bert', 'blip'),
}


def read(folder):
  """All that loading does, but for making the module and its arrays."""
  config, files, source = checkpoint.read_folder(folder)
  family = families.find(config)
  module = family.build_module(config, jnp.float32)
  for name in source.names:
    source.read(name)
  if base.TOKENIZER in files:
    opened = family.model_class(module, {}, config, files)
    opened.tokenizer.encode('a cat')
  return family.rules(config)


@pytest.mark.parametrize('file', FILES)
def test_a_changed_file_gives_a_result_or_an_error_by_name(file, tmp_path):
  folders = [tmp_path / name for name in FILES[file]]
  for folder in folders:
    shutil.copytree(GOLDEN / folder.name, folder)
    if file == tensors.INDEX:
      held = tensors.Tensors(folder)
      tensors.write(
        folder, [(n, held.read(n)) for n in sorted(held.names)], 8000
      )
  originals = [(folder / file).read_bytes() for folder in folders]
  failed = []
  for seed in range(NUMBER):
    rng = np.random.default_rng([seed, len(file)])
    which = seed % len(folders)
    path = folders[which] / file
    path.write_bytes(mutations.mutate(rng, originals[which]))
    try:
      read(folders[which])
    except (ValueError, OSError) as error:
      if file not in str(error) and 'model-0' not in str(error):
        failed.append(f'{seed}, {folders[which].name}: {error!r:.300}')
    except Exception as error:
      failed.append(f'{seed}, {folders[which].name}: {error!r:.300}')
    path.write_bytes(originals[which])
  assert not failed, '\n'.join([f'{len(failed)}', *failed[:40]])


@pytest.mark.parametrize('file', OLDER)
def test_a_changed_tokenizer_gives_ids_or_an_error_by_name(file, tmp_path):
  folders = [tmp_path / name for name in OLDER[file]]
  for folder in folders:
    older_tokenizers.write(folder, folder.name)
  originals = [(folder / file).read_bytes() for folder in folders]
  failed = []
  for seed in range(NUMBER):
    rng = np.random.default_rng([seed, len(file), 1])
    which = seed % len(folders)
    path = folders[which] / file
    path.write_bytes(mutations.mutate(rng, originals[which]))
    try:
      test_tokenizer_files.build_tokenizer(folders[which]).encode('a cat')
    except ValueError as error:
      if file not in str(error):
        failed.append(f'{seed}, {folders[which].name}: {error!r:.300}')
    except BaseException as error:  # The library panics, too.
      failed.append(f'{seed}, {folders[which].name}: {error!r:.300}')
    path.write_bytes(originals[which])
  assert not failed, '\n'.join([f'{len(failed)}', *failed[:40]])
