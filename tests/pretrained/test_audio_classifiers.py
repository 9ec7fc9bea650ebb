"""AST: as transformers computed it, out again, and refused."""

import functools
import json
import shutil
import wave
from pathlib import Path

import jax
import numpy as np
import pytest

from mmjax import pretrained
from mmjax.pretrained import audio_spectrogram_transformer as ast
from mmjax.pretrained import checkpoint, preprocess_audio, tensors

GOLDEN = Path(__file__).parent / 'golden' / 'audio_spectrogram_transformer'
close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-5)


@pytest.fixture(scope='module')
def loaded():
  return pretrained.load(GOLDEN)


@pytest.fixture(scope='module')
def expected():
  return dict(np.load(GOLDEN / 'expected.npz'))


@pytest.fixture(scope='module')
def sounds(expected, tmp_path_factory):
  """One as floats, one as a file."""
  path = tmp_path_factory.mktemp('sounds') / 'second.wav'
  with wave.open(str(path), 'wb') as file:
    file.setnchannels(1)
    file.setsampwidth(2)
    file.setframerate(16_000)
    file.writeframes(expected['second'].astype('<i2').tobytes())
  return [expected['first'] / np.float32(32768), path]


def test_numbers_are_those_of_transformers(loaded, expected, sounds):
  # Logarithms of sums in float32, there in float64.
  close(loaded.preprocessor(sounds), expected['features'], atol=5e-5)
  tokens = loaded.jit_method('encode')(loaded.params, expected['features'])
  close(tokens.values, expected['encoded'])
  close(tokens.pooled, expected['pooled'])
  logits = loaded.jit_method('classify')(loaded.params, expected['features'])
  close(logits, expected['logits'])
  close(loaded.encode_audio(sounds).pooled, expected['pooled'], atol=1e-4)


def test_sounds_are_classified(loaded, expected, sounds):
  logits = expected['logits']
  close(loaded.class_logits(sounds[1]), logits[1:], atol=1e-4)
  assert list(loaded.labels) == ['dog', 'cat', 'rain']
  chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  for row, best in enumerate(loaded.classify(sounds, top=2)):
    order = np.argsort(-logits[row])[:2]
    assert [label for label, _ in best] == [loaded.labels[i] for i in order]
    close([chance for _, chance in best], chances[row, order], atol=1e-4)
  config = {**loaded.config, 'problem_type': 'multi_label_classification'}
  several = ast.Model(loaded.module, loaded.params, config, loaded.files)
  chance = several.classify(sounds[0])[0][0][1]
  close(chance, 1 / (1 + np.exp(-logits[0].max())), atol=1e-4)


def test_what_is_saved_is_what_was_loaded(loaded, tmp_path):
  pretrained.save(loaded, tmp_path)
  again = pretrained.load(tmp_path)
  assert again.config == loaded.config and again.files == loaded.files
  jax.tree.map(np.testing.assert_array_equal, again.params, loaded.params)
  there, here = tensors.Tensors(GOLDEN), tensors.Tensors(tmp_path)
  assert here.names == there.names
  for name in there.names:
    np.testing.assert_array_equal(here.read(name), there.read(name))


# Classes and frames of the checkpoints for AudioSet, with patches 10 apart, and
# for Speech Commands.
@pytest.mark.parametrize(
  'classes, frames, number', [(527, 1024, 86_594_063), (35, 128, 85_395_491)]
)
def test_published_sizes(classes, frames, number):
  labels = {str(i): str(i) for i in range(classes)}
  config = {'id2label': labels, 'max_length': frames}
  shapes = checkpoint.shapes(ast.module(config), ast.inputs(config))
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == number


def change_config(folder, **values):
  shutil.copytree(GOLDEN, folder, dirs_exist_ok=True)
  config = json.loads((GOLDEN / 'config.json').read_text())
  (folder / 'config.json').write_text(json.dumps({**config, **values}))
  return folder


@pytest.mark.parametrize(
  'values, message',
  [
    ({'patch_size': [6, 6]}, r'patch_size is \[6, 6\]; mmjax reads only int'),
    ({'hidden_act': 'mish'}, "hidden_act is 'mish'; mmjax knows"),
    ({'time_stride': 7}, r'position_embeddings is \[1, 14, 12\], not \[1, 11'),
    ({'architectures': ['ASTForAll']}, r"architectures is \['ASTForAll'\]; of"),
    ({'qkv_bias': False}, r'attention\.query\.bias is left over'),
  ],
)
def test_what_does_not_fit_is_named(tmp_path, values, message):
  with pytest.raises(ValueError, match=message):
    pretrained.load(change_config(tmp_path, **values))


def test_an_encoder_alone_does_not_classify(loaded, sounds):
  config = {**loaded.config, 'architectures': ['ASTModel']}
  alone = ast.Model(ast.module(config), {}, config, loaded.files)
  assert list(alone.labels) == []
  with pytest.raises(ValueError, match='has no classifier; open one whose'):
    alone.class_logits(sounds)


def test_other_preprocessing_is_refused():
  with pytest.raises(ValueError, match=r'preprocessor_config.json: .* mmjax'):
    preprocess_audio.FbankPreprocessor.from_config(
      {'feature_extractor_type': 'WhisperFeatureExtractor'}
    )
  prepare = preprocess_audio.FbankPreprocessor()
  with pytest.raises(ValueError, match='has 399 samples, less than a frame'):
    prepare([np.zeros(399, np.float32)])
  with pytest.raises(ValueError, match=r'a sound is the path of a \.wav file'):
    prepare([np.zeros(500, np.int16)])
