"""What is downloaded from the hub, and what is said where that can't be."""

import fnmatch
import json
import sys
import types

import pytest

from mmjax.errors import ConfigError
from mmjax.pretrained import checkpoint, hub, tensors

NAME = 'someone/model'
SMALL = [
  '1_Pooling/config.json',
  'chat_template.jinja',
  'config.json',
  'merges.txt',
  'spiece.model',
  'tokenizer.json',
  'tokenizer.model',
]


class HfHubHTTPError(Exception):
  pass


@pytest.fixture
def serve(monkeypatch, tmp_path):
  """A hub that has some files: names -> the folder that it downloads to."""

  def start(*names, error=None, steps=('Transformer', 'Pooling')):
    def listed(name):
      assert name == NAME
      if error:
        raise error
      return list(names)

    def downloaded(name, *, allow_patterns):
      assert name == NAME
      for file in names:
        if any(fnmatch.fnmatch(file, pattern) for pattern in allow_patterns):
          (tmp_path / file).parent.mkdir(exist_ok=True)
          (tmp_path / file).write_text(
            json.dumps({'architectures': ['BertModel']})
          )
      if not names:
        raise HfHubHTTPError('404')
      return str(tmp_path)

    def fetched(name, file):
      assert name == NAME
      entries = [
        {'type': f'sentence_transformers.models.{kind}', 'path': f'{i}_{kind}'}
        for i, kind in enumerate(steps)
      ]
      (tmp_path / file).write_text(json.dumps(entries))
      return str(tmp_path / file)

    fake = types.ModuleType('huggingface_hub')
    fake.list_repo_files = listed
    fake.snapshot_download = downloaded
    fake.hf_hub_download = fetched
    fake.constants = types.SimpleNamespace(ENDPOINT='https://hub')
    monkeypatch.setattr(hub, 'is_reachable', lambda endpoint: True)
    fake.errors = types.SimpleNamespace(HfHubHTTPError=HfHubHTTPError)
    monkeypatch.setitem(sys.modules, 'huggingface_hub', fake)
    return tmp_path

  return start


def files(folder):
  paths = (path for path in folder.rglob('*') if path.is_file())
  return sorted(path.relative_to(folder).as_posix() for path in paths)


@pytest.mark.parametrize(
  'weights',
  [
    ['model.safetensors'],
    ['model-00001-of-00001.safetensors', 'model.safetensors.index.json'],
  ],
)
def test_safetensors_and_small_files_are_downloaded(serve, weights):
  others = ['pytorch_model.bin', 'model.bin', 'tf_model.h5', 'README.md']
  folder = serve(*SMALL, *weights, *others)
  assert hub.find(NAME) == folder
  assert files(folder) == sorted([*SMALL, *weights])


def test_weights_in_the_subfolder_of_a_sentence_encoder(serve):
  weights = '0_Transformer/model.safetensors'
  named = ['modules.json', '0_Transformer/config.json', weights]
  folder = serve(*named, 'onnx/model.safetensors')
  assert hub.find(NAME) == folder
  assert files(folder) == sorted(named)


def test_weights_of_a_dense_step(serve):
  named = ['modules.json', '0_Transformer/model.safetensors']
  dense = '2_Dense/model.safetensors'
  steps = ('Transformer', 'Pooling', 'Dense')
  folder = serve(*named, dense, 'x/model.safetensors', steps=steps)
  assert hub.find(NAME) == folder
  assert files(folder) == sorted([*named, dense])


def test_pickles_in_the_subfolder_of_a_sentence_encoder(serve):
  pickle = '0_Transformer/pytorch_model.bin'
  serve('modules.json', '0_Transformer/config.json', pickle)
  with pytest.raises(ValueError, match='are pickles') as caught:
    hub.find(NAME)
  assert f"BertModel.from_pretrained({NAME!r}, subfolder='0_Transformer')" in (
    str(caught.value)
  )


def test_steps_are_refused_before_weights_are_downloaded(serve):
  names = ['modules.json', 'config.json', 'model.safetensors']
  folder = serve(*names, steps=('Transformer', 'Pooling', 'LSTM'))
  with pytest.raises(ConfigError, match=f'^{NAME}: .*Pooling, LSTM; mmjax'):
    hub.find(NAME)
  assert not (folder / 'model.safetensors').exists()


@pytest.mark.parametrize('config', tensors.OPEN_CLIP)
def test_the_layout_of_open_clip_is_named(serve, config, tmp_path):
  folder = serve(config, 'open_clip_pytorch_model.bin')
  message = f'has {config} but no config.json: it is laid out as open_clip'
  with pytest.raises(ValueError, match=f'^{NAME} {message}'):
    hub.find(NAME)
  (tmp_path / config).write_text('{}')
  with pytest.raises(ValueError, match=f'^{folder} {message}'):
    checkpoint.load(folder)


def test_pickles_are_not_downloaded_but_named(serve):
  pickles = ['pytorch_model-1.bin', 'pytorch_model-2.bin']
  folder = serve(*SMALL, *reversed(pickles), 'onnx/other.bin')
  with pytest.raises(ValueError, match='are pickles') as caught:
    hub.find(NAME)
  assert str(caught.value).startswith(
    f'{NAME} has its weights in pytorch_model-1.bin, pytorch_model-2.bin, '
  )
  assert f'BertModel.from_pretrained({NAME!r})' in str(caught.value)
  assert files(folder) == SMALL


@pytest.mark.parametrize('words', ['vocabulary.json', 'vocabulary.txt'])
def test_a_model_of_ctranslate2_is_downloaded(serve, words):
  folder = serve('config.json', 'tokenizer.json', words, 'model.bin')
  assert hub.find(NAME) == folder
  assert files(folder) == ['config.json', 'model.bin', 'tokenizer.json', words]


def test_a_pickle_may_have_the_name_of_ctranslate2(serve):
  serve('config.json', 'model.bin')
  with pytest.raises(ValueError, match=r'weights in model.bin, .* pickles'):
    hub.find(NAME)


def test_the_cache_needs_no_network(serve):
  folder = serve(*SMALL, 'model.safetensors', error=RuntimeError('offline'))
  assert hub.find(NAME) == folder
  assert files(folder) == sorted([*SMALL, 'model.safetensors'])


def test_a_name_that_the_hub_does_not_have(serve):
  serve(error=HfHubHTTPError('404'))
  with pytest.raises(ConfigError, match='gives no model of this name'):
    hub.find(NAME)


def test_without_the_extra_the_way_is_told(monkeypatch):
  monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
  with pytest.raises(ConfigError, match='install the extra `hub`'):
    hub.find(NAME)


def test_a_folder_is_itself_and_a_file_is_none(tmp_path):
  assert hub.find(tmp_path) == tmp_path
  (tmp_path / 'file').touch()
  with pytest.raises(ConfigError, match='is a file; give its folder'):
    hub.find(tmp_path / 'file')
  with pytest.raises(ConfigError, match='there is no folder'):
    hub.find(tmp_path / 'typing' / 'error')


def test_without_a_network_only_the_cache_is_used(tmp_path, monkeypatch):
  cached = {NAME: str(tmp_path)}

  def downloaded(name, *, local_files_only):
    assert local_files_only
    if name not in cached:
      raise FileNotFoundError(name)
    return cached[name]

  fake = types.ModuleType('huggingface_hub')
  fake.snapshot_download = downloaded
  # Nothing listens on this port.
  fake.constants = types.SimpleNamespace(ENDPOINT='http://localhost:9')
  monkeypatch.setitem(sys.modules, 'huggingface_hub', fake)
  monkeypatch.setattr(hub.urllib.request, 'getproxies', dict)
  assert hub.find(NAME) == tmp_path
  message = 'no folder some/other, and http://localhost:9 cannot be reached'
  with pytest.raises(ConfigError, match=message):
    hub.find('some/other')
