"""A model.bin is read strictly."""

import json
import shutil
import struct
from pathlib import Path

import jax
import numpy as np
import pytest

from mmjax import pretrained
from mmjax.errors import ConfigError
from mmjax.pretrained import ctranslate2

GOLDEN = Path(__file__).parent / 'golden'

ARRAYS = {
  'a/weight': np.asarray([[127, -64, 3], [5, -127, 0]], np.int8),
  'a/weight_scale': np.asarray([254.0, 4.0], np.float32),
  'b/weight': np.asarray([[1024, -7]], np.int16),
  'b/weight_scale': np.asarray(512.0, np.float32),
  'c': np.asarray([1.5, -2.25], np.float16),
  'd': np.asarray(6, np.int16),
}
TYPES = {'float32': 0, 'int8': 1, 'int16': 2, 'int32': 3, 'float16': 4}


def string(text):
  return struct.pack('<H', len(text) + 1) + text.encode() + b'\0'


def write_model(
  folder, arrays, aliases=(), version=6, kind='WhisperSpec', revision=3
):
  data = struct.pack('<I', version) + string(kind)
  data += struct.pack('<II', revision, len(arrays))
  for name, array in arrays.items():
    data += string(name) + struct.pack('<B', array.ndim)
    data += struct.pack(f'<{array.ndim}I', *array.shape)
    data += struct.pack('<BI', TYPES[array.dtype.name], array.nbytes)
    data += array.tobytes()
  data += struct.pack('<I', len(aliases))
  for alias, name in aliases:
    data += string(alias) + string(name)
  path = folder / ctranslate2.FILE
  path.write_bytes(data)
  return path


def test_variables_are_read_and_brought_to_scale(tmp_path):
  path = write_model(tmp_path, ARRAYS, [('e/weight', 'a/weight')])
  variables = ctranslate2.Variables(path)
  assert variables.names == {*ARRAYS, 'e/weight'}
  assert variables.shape('a/weight') == (2, 3) and variables.shape('d') == ()
  want = np.float32([[127 / 254, -64 / 254, 3 / 254], [1.25, -31.75, 0]])
  for name in ('a/weight', 'e/weight'):
    assert variables.read(name).dtype == np.float32
    np.testing.assert_array_equal(variables.read(name), want)
  np.testing.assert_array_equal(variables.read('b/weight'), [[2, -7 / 512]])
  np.testing.assert_array_equal(variables.read('c'), ARRAYS['c'])
  assert variables.read('d') == 6
  assert variables.is_same('a/weight', 'e/weight')
  assert not variables.is_same('a/weight', 'b/weight')


@pytest.mark.parametrize(
  'settings, message',
  [
    ({'version': 5}, 'has version 5'),
    ({'kind': 'TransformerSpec'}, "kind 'TransformerSpec'"),
    ({'revision': 4}, 'and revision 4; mmjax reads version 6'),
    ({'aliases': [('x', 'y')]}, 'x is y, which is not there'),
  ],
)
def test_other_files_are_refused(tmp_path, settings, message):
  path = write_model(tmp_path, ARRAYS, **settings)
  with pytest.raises(ValueError, match=message):
    ctranslate2.Variables(path)


def test_broken_files_are_told(tmp_path):
  path = write_model(tmp_path, ARRAYS)
  whole = path.read_bytes()
  for length in range(4, len(whole), 7):
    path.write_bytes(whole[:length])
    with pytest.raises(ValueError, match=r'is broken: .*; download it again'):
      ctranslate2.Variables(path)
  path.write_bytes(whole + b'x')
  with pytest.raises(ValueError, match='1 bytes are left over'):
    ctranslate2.Variables(path)


def test_what_is_no_whisper_is_named_at_once(tmp_path):
  arrays = {**ARRAYS, 'decoder/alibi': np.asarray(1, np.int8)}
  variables = ctranslate2.Variables(write_model(tmp_path, arrays))
  with pytest.raises(ValueError) as caught:
    ctranslate2.Tensors(variables)
  message = str(caught.value)
  for name in ('conv1/weight', 'num_heads'):
    assert f'encoder/{name} is missing' in message
  assert 'decoder/projection/weight is missing' in message
  assert 'a/weight is left over' in message
  assert 'decoder/alibi is 1, not 0' in message


def test_a_pickle_is_no_model(tmp_path):
  path = tmp_path / ctranslate2.FILE
  assert not ctranslate2.is_model(tmp_path)
  path.write_bytes(b'\x80\x02}q\x00.')
  assert not ctranslate2.is_model(tmp_path)
  path.write_bytes(struct.pack('<I', 6))
  assert ctranslate2.is_model(tmp_path)


def test_a_whisper_is_that_of_hugging_face(tmp_path):
  given = GOLDEN / 'whisper_ctranslate2'
  loaded = pretrained.load(given)
  want = pretrained.load(GOLDEN / 'whisper')
  assert loaded.module == want.module

  def check(mine, theirs):
    # Matrices have 8 bits, with their row's largest number 127 steps from 0.
    half = np.abs(theirs).max() / 254
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1.01 * half)

  jax.tree.map(check, loaded.params, want.params)
  # A tokenizer of so few words is taken for one of English alone.
  assert loaded.prompt() == [27, 32] and not loaded.languages
  assert loaded.generation['suppress_tokens'] == [0, 32]
  assert loaded.generation['begin_suppress_tokens'] == [1, 26]
  assert loaded.preprocessor.num_mels == 10 and loaded.preprocessor.seconds == 1
  assert loaded.text([2, 33, 3, 26]) == 'c d'
  pretrained.save(loaded, tmp_path / 'saved')
  again = pretrained.load(tmp_path / 'saved')
  assert again.config == {**loaded.config, 'dtype': 'float32'}
  assert again.files == loaded.files
  jax.tree.map(np.testing.assert_array_equal, again.params, loaded.params)

  copied = shutil.copytree(given, tmp_path / 'copied')
  preprocessor = {'chunk_length': 2, 'feature_size': 10}
  (copied / 'preprocessor_config.json').write_text(json.dumps(preprocessor))
  assert pretrained.load(copied).preprocessor.seconds == 2
  (copied / 'tokenizer.json').unlink()
  with pytest.raises(ConfigError, match=r'has no tokenizer\.json'):
    pretrained.load(copied)
