"""Hugging Face folders are read strictly, and nothing is unpickled."""

import json
import pathlib
import shutil

import numpy as np
import pytest
import safetensors.numpy

import mmjax
from mmjax.errors import ConfigError
from mmjax.pretrained import tensors

GOLDEN = pathlib.Path(__file__).parent / 'golden'
ARRAYS = {
  'a.weight': np.arange(12, dtype=np.float32).reshape(3, 4),
  'b': np.float32(1.5)[()].reshape(()),
  'c': np.ones((5,), np.float16),
}


def test_what_is_written_is_read(tmp_path):
  tensors.write(tmp_path, ARRAYS.items())
  assert [path.name for path in tmp_path.iterdir()] == [tensors.FILE]
  source = tensors.Tensors(tmp_path)
  assert source.names == set(ARRAYS)
  for name, array in ARRAYS.items():
    assert source.shape(name) == array.shape
    assert source.read(name).dtype == array.dtype
    np.testing.assert_array_equal(source.read(name), array)


def test_shards_have_an_index(tmp_path):
  tensors.write(tmp_path, ARRAYS.items())  # The single file goes.
  tensors.write(tmp_path, ARRAYS.items(), shard_bytes=50)
  names = sorted(path.name for path in tmp_path.iterdir())
  assert names == [
    'model-00001-of-00002.safetensors',
    'model-00002-of-00002.safetensors',
    tensors.INDEX,
  ]
  index = json.loads((tmp_path / tensors.INDEX).read_text())
  assert index['metadata']['total_size'] == 48 + 4 + 10
  source = tensors.Tensors(tmp_path)
  for name, array in ARRAYS.items():
    np.testing.assert_array_equal(source.read(name), array)
  tensors.write(tmp_path, ARRAYS.items())
  assert [path.name for path in tmp_path.iterdir()] == [tensors.FILE]


def test_a_missing_shard_is_named(tmp_path):
  tensors.write(tmp_path, ARRAYS.items(), shard_bytes=50)
  (tmp_path / 'model-00002-of-00002.safetensors').unlink()
  with pytest.raises(ConfigError, match='names model-00002-of-00002'):
    tensors.Tensors(tmp_path)


def test_an_index_that_lies_is_refused(tmp_path):
  tensors.write(tmp_path, ARRAYS.items(), shard_bytes=50)
  path = tmp_path / tensors.INDEX
  index = json.loads(path.read_text())
  index['weight_map']['ghost'] = 'model-00001-of-00002.safetensors'
  path.write_text(json.dumps(index))
  with pytest.raises(ValueError, match=r'holds ghost, but it does not'):
    tensors.Tensors(tmp_path)


def test_what_an_index_does_not_list_is_refused_as_left_over(tmp_path):
  folder = shutil.copytree(GOLDEN / 'clip', tmp_path / 'clip')
  held = safetensors.numpy.load_file(folder / tensors.FILE)
  tensors.write(folder, held.items(), shard_bytes=10_000)
  mmjax.load(folder)
  shard = max(folder.glob('model-*'))
  stray = {**safetensors.numpy.load_file(shard), 'stray': np.ones(3)}
  safetensors.numpy.save_file(stray, shard)
  with pytest.raises(ValueError, match='stray is left over'):
    mmjax.load(folder)


def test_a_tensor_in_two_shards_is_refused(tmp_path):
  tensors.write(tmp_path, ARRAYS.items(), shard_bytes=50)
  shard = tmp_path / 'model-00002-of-00002.safetensors'
  twice = {**safetensors.numpy.load_file(shard), 'a.weight': np.ones(3)}
  safetensors.numpy.save_file(twice, shard)
  with pytest.raises(ValueError, match=r'holds a\.weight, which another shard'):
    tensors.Tensors(tmp_path)


@pytest.mark.parametrize('length', [0, 5, 60, -1])
def test_a_cut_off_file_is_named(tmp_path, length):
  tensors.write(tmp_path, ARRAYS.items())
  path = tmp_path / tensors.FILE
  path.write_bytes(path.read_bytes()[:length])
  with pytest.raises(ValueError, match=r'model.safetensors is broken or cut'):
    tensors.Tensors(tmp_path)


def test_pickles_are_never_opened(tmp_path):
  (tmp_path / 'pytorch_model.bin').write_bytes(b'cos\nsystem\n')
  with pytest.raises(ValueError, match=r'pytorch_model.bin.*save_pretrained'):
    tensors.Tensors(tmp_path)


def test_an_empty_folder_is_refused(tmp_path):
  with pytest.raises(ConfigError, match='neither model'):
    tensors.Tensors(tmp_path)
  for name in 'open_clip_model.safetensors', 'model.gguf', 'tf_model.h5':
    (tmp_path / name).write_bytes(b'')
    with pytest.raises(ConfigError, match=f'{name} is not read'):
      tensors.Tensors(tmp_path)
    (tmp_path / name).unlink()


def test_a_pointer_of_git_is_named(tmp_path):
  text = 'version https://git-lfs.github.com/spec/v1\noid sha256:5\nsize 7\n'
  (tmp_path / tensors.FILE).write_text(text)
  with pytest.raises(ConfigError, match='is a pointer of Git LFS'):
    tensors.Tensors(tmp_path)


@pytest.mark.parametrize(
  'file',
  [
    '../outside.safetensors',
    '/outside.safetensors',
    'a/../../outside.safetensors',
    'a\\..\\outside.safetensors',
    'c:outside.safetensors',
    './model.safetensors',
    'pytorch_model.bin',
    'a\0.safetensors',
    '',
  ],
)
def test_a_shard_is_a_file_inside_the_folder(tmp_path, file):
  tensors.write(tmp_path, ARRAYS.items())
  shutil.copy(tmp_path / tensors.FILE, tmp_path.parent / 'outside.safetensors')
  index = {'weight_map': dict.fromkeys(ARRAYS, file)}
  (tmp_path / tensors.INDEX).write_text(json.dumps(index))
  with pytest.raises(ValueError, match=r'index\.json names .* inside the fold'):
    tensors.Tensors(tmp_path)


def test_a_shard_may_be_in_a_folder_of_the_folder(tmp_path):
  tensors.write(tmp_path / 'parts', ARRAYS.items())
  index = {'weight_map': dict.fromkeys(ARRAYS, f'parts/{tensors.FILE}')}
  (tmp_path / tensors.INDEX).write_text(json.dumps(index))
  source = tensors.Tensors(tmp_path)
  np.testing.assert_array_equal(source.read('c'), ARRAYS['c'])


def header(text, data=b''):
  return len(text).to_bytes(8, 'little') + text + data


@pytest.mark.parametrize(
  'content',
  [
    (2**62).to_bytes(8, 'little') + b'{}',
    header(b'{"\xff": {}}'),
    header(b'[' * 100_000),
    header(b'{"a":' * 5000 + b'1' + b'}' * 5000),
    header(
      b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, '
      b'"b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}',
      b'\0' * 12,
    ),
    header(b'{"a": {"dtype": "F33", "shape": [1], "data_offsets": [0, 4]}}'),
    header(b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}'),
  ],
)
def test_a_broken_header_is_named(tmp_path, content):
  (tmp_path / tensors.FILE).write_bytes(content)
  with pytest.raises(ValueError, match=r'model\.safetensors is broken'):
    tensors.Tensors(tmp_path)


@pytest.mark.parametrize('kind', ['F8_E4M3', 'F4'])
def test_a_type_that_numpy_lacks_is_named(tmp_path, kind):
  size = {'F4': 1}.get(kind, 2)
  text = {'a': {'dtype': kind, 'shape': [2], 'data_offsets': [0, size]}}
  (tmp_path / tensors.FILE).write_bytes(
    header(json.dumps(text).encode(), b'\0' * size)
  )
  source = tensors.Tensors(tmp_path)
  with pytest.raises(ValueError, match=r'safetensors: a cannot be read .*save'):
    source.read('a')
