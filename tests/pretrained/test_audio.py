"""Whisper: as transformers computed it, out again, and refused."""

import functools
import json
import shutil
import wave
from pathlib import Path

import jax
import numpy as np
import pytest

from mmjax import pretrained
from mmjax.pretrained import checkpoint, preprocess_audio, tensors, whisper

GOLDEN = Path(__file__).parent / 'golden' / 'whisper'
close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-5)
HEARD = json.loads((GOLDEN / 'expected.json').read_text())


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
  read = loaded.preprocessor
  windows = [read.cut_windows(read.read_samples(sound)) for sound in sounds]
  spectrogram = read.spectrogram(np.concatenate(windows))
  close(spectrogram, expected['features'])
  tokens = loaded.encode_audio(sounds)
  close(tokens.values, expected['encoded'])
  apply = jax.jit(functools.partial(loaded.module.apply, train=False))
  text = np.pad(expected['text'], ((0, 0), (0, 1)))  # The last is not read.
  out = apply(
    {'params': loaded.params}, {'spectrogram': spectrogram, 'text': text}
  )
  close(out['transcript_logits'], expected['logits'])


def test_texts_are_those_of_transformers(loaded, sounds):
  transcribe = functools.partial(
    loaded.transcribe, language='de', task='translate', max_tokens=12
  )
  assert transcribe(sounds) == HEARD['texts']
  assert transcribe(sounds[1]) == HEARD['texts'][1:]
  assert loaded.detect_language(sounds) == HEARD['languages']
  both = loaded.transcribe(sounds, task='translate', max_tokens=12)
  alone = loaded.transcribe(
    sounds, language=HEARD['languages'][0], task='translate', max_tokens=12
  )
  assert both == alone
  assert transcribe([]) == []


def test_long_sounds_are_read_window_by_window(loaded, sounds):
  first = np.pad(sounds[0], (0, 16_000 - len(sounds[0])))
  long = np.concatenate([first, loaded.preprocessor.read_samples(sounds[1])])
  got = loaded.transcribe(
    [sounds[1], long], language='de', task='translate', max_tokens=12,
    batch_size=2,
  )  # fmt: skip
  assert got == [HEARD['texts'][1], ' '.join(HEARD['texts'])]
  with pytest.raises(
    ValueError, match=r'1\.2 seconds is longer than a window of 1;'
  ):
    loaded.encode_audio(long)


def test_what_is_saved_is_what_was_loaded(loaded, tmp_path):
  pretrained.save(loaded, tmp_path)
  again = pretrained.load(tmp_path)
  assert again.config == loaded.config and again.files == loaded.files
  jax.tree.map(np.testing.assert_array_equal, again.params, loaded.params)
  there, here = tensors.Tensors(GOLDEN), tensors.Tensors(tmp_path)
  assert here.names == there.names
  for name in there.names:
    np.testing.assert_array_equal(here.read(name), there.read(name))


# Width, layers of encoder and decoder, heads, hidden size, words, bands; and
# the parameters of the published checkpoints.
SIZES = {
  'tiny.en': (384, 4, 4, 6, 1536, 51864, 80, 37_760_256),
  'tiny': (384, 4, 4, 6, 1536, 51865, 80, 37_760_640),
  'base': (512, 6, 6, 8, 2048, 51865, 80, 72_593_920),
  'small': (768, 12, 12, 12, 3072, 51865, 80, 241_734_912),
  'medium': (1024, 24, 24, 16, 4096, 51865, 80, 763_857_920),
  'large-v2': (1280, 32, 32, 20, 5120, 51865, 80, 1_543_304_960),
  'large-v3': (1280, 32, 32, 20, 5120, 51866, 128, 1_543_490_560),
  'large-v3-turbo': (1280, 32, 4, 20, 5120, 51866, 128, 808_878_080),
}


@pytest.mark.parametrize('name', SIZES)
def test_published_sizes(name):
  width, encoder, decoder, heads, hidden, words, bands, number = SIZES[name]
  config = {
    'd_model': width,
    'encoder_layers': encoder,
    'decoder_layers': decoder,
    'encoder_attention_heads': heads,
    'decoder_attention_heads': heads,
    'encoder_ffn_dim': hidden,
    'decoder_ffn_dim': hidden,
    'vocab_size': words,
    'num_mel_bins': bands,
  }
  shapes = checkpoint.shapes(whisper.module(config), whisper.inputs(config))
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == number


@pytest.mark.parametrize(
  'values, message',
  [
    ({'scale_embedding': True}, 'scale_embedding is True; mmjax reads'),
    ({'activation_function': 'mish'}, "activation_function is 'mish'; mmjax"),
    ({'encoder_layers': 3}, r'encoder\.layers\.2\..* is missing'),
    ({'num_mel_bins': 9}, r'conv1\.weight is \[12, 10, 3\], not \[12, 9, 3\]'),
    (
      {'architectures': ['WhisperForAudioClassification']},
      r"architectures is \['WhisperForAudioClassification'\]; of",
    ),
    ({'tie_word_embeddings': False}, r'proj_out\.weight \[35, 12\] is missing'),
  ],
)
def test_what_does_not_fit_is_named(tmp_path, values, message):
  shutil.copytree(GOLDEN, tmp_path, dirs_exist_ok=True)
  config = json.loads((GOLDEN / 'config.json').read_text())
  (tmp_path / 'config.json').write_text(json.dumps({**config, **values}))
  with pytest.raises(ValueError, match=message):
    pretrained.load(tmp_path)


def with_generation(loaded, **values):
  """The model, but for some values of its generation_config.json; None: out."""
  given = json.loads(loaded.file('generation_config.json')) | values
  given = {name: value for name, value in given.items() if value is not None}
  file = {'generation_config.json': json.dumps(given).encode()}
  return whisper.Model(
    loaded.module, loaded.params, loaded.config, {**loaded.files, **file}
  )


def test_prompts(loaded):
  start, english, german, translate, write, silent = 27, 28, 29, 30, 31, 32
  assert loaded.prompt('de') == [start, german, write, silent]
  assert loaded.prompt('en', 'translate') == [start, english, translate, silent]
  assert loaded.default_language() is None
  forced = with_generation(
    loaded, forced_decoder_ids=[[1, german], [2, translate]]
  )
  assert forced.default_language() == 'de'
  assert forced.prompt('en') == [start, english, translate, silent]
  named = with_generation(loaded, language='<|en|>', task='translate')
  assert named.default_language() == 'en'
  assert named.prompt('de') == [start, german, translate, silent]
  alone = with_generation(
    loaded,
    lang_to_id=None,
    task_to_id=None,
    forced_decoder_ids=[[1, silent]],
  )
  assert alone.prompt() == [start, silent]
  assert alone.default_language() is None
  with pytest.raises(ValueError, match=r"language 'fr' is unknown.*'de', 'en'"):
    loaded.prompt('fr')
  with pytest.raises(ValueError, match="task 'sing' is unknown"):
    loaded.prompt('de', 'sing')
  with pytest.raises(ValueError, match="'en' and task None are for"):
    alone.prompt('en')
  with pytest.raises(ValueError, match='knows one language'):
    alone.detect_language(np.zeros(100, np.float32))


def test_times_are_no_text(loaded):
  assert loaded.text([2, 33, 3, 26, 34]) == 'c d'


@pytest.mark.parametrize(
  'sound', [np.zeros(5, np.int16), np.zeros((2, 5)), 3.0, 'no.mp3']
)
def test_other_sounds_are_refused(loaded, sound, tmp_path):
  if isinstance(sound, str):
    (tmp_path / sound).write_bytes(b'ID3' + bytes(40))
    sound = tmp_path / sound
  with pytest.raises(
    ValueError,
    match=r'a sound is the path|not a readable sound',
  ):
    loaded.transcribe([sound])


@pytest.mark.parametrize(
  'values', [{'dither': 0.1}, {'do_normalize': True}, {'padding_value': 1.0}]
)
def test_other_preprocessing_is_refused(values):
  with pytest.raises(ValueError, match=r'preprocessor_config.json: .* mmjax'):
    preprocess_audio.AudioPreprocessor.from_config(values)


def without_generation(folder, **values):
  """The golden one as old folders are: config.json says how to write."""
  shutil.copytree(GOLDEN, folder, dirs_exist_ok=True)
  (folder / 'generation_config.json').unlink()
  path = folder / 'config.json'
  path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
  return pretrained.load(folder)


def test_a_folder_without_generation_settings(tmp_path, sounds):
  forced = {'forced_decoder_ids': [[1, 28], [2, 31], [3, 32]]}
  suppressed = {'suppress_tokens': [0, 32], 'begin_suppress_tokens': [1, 26]}
  old = without_generation(tmp_path, **forced, **suppressed)
  # It names no languages, but what a text begins with.
  assert old.prompt() == [27, 28, 31, 32] and not old.languages
  with pytest.raises(ValueError, match="language 'de' and task None are for"):
    old.prompt('de')
  # Times are still left out of what is read.
  assert old.text([2, 33, 3, 26]) == 'c d'
  new = pretrained.load(GOLDEN)
  want = new.transcribe(sounds, language='en', max_tokens=6)
  assert old.transcribe(sounds, max_tokens=6) == want and any(want)


@pytest.mark.parametrize('name', ['decoder_start_token_id', 'eos_token_id'])
def test_an_id_that_no_file_has_is_named(tmp_path, name, sounds):
  old = without_generation(tmp_path, **{name: None})
  with pytest.raises(ValueError, match=f'has an id for {name}, but None'):
    old.transcribe(sounds)
