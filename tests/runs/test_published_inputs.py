"""Settings of inputs that come with published weights."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from mmjax.data import images
from mmjax.errors import ConfigError
from mmjax.pretrained import gemma3, janus, llava
from mmjax.runs import published_inputs

TOKENIZER = (
  Path(__file__).parents[1] / 'pretrained/golden/gemma3/tokenizer.json'
)


def test_images_of_janus_are_padded():
  """What stays of the image is equal; what is padded has another color."""
  prepares = janus.Model.make_preprocessor(
    {'size': {'height': 12, 'width': 12}, 'min_size': 2}
  )
  data, note = published_inputs.convert_images(prepares)
  assert 'with white, where' in note
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 256, (6, 24, 3), np.uint8)
  resized = images.resize(pixels, data['image_size'], data['resize'])
  got = images.normalise(resized, data['mean'], data['std'])
  want = prepares(PIL.Image.fromarray(pixels))
  kept = slice(4, 7)  # 3 of 12 rows.
  assert got.shape == want.shape == (12, 12, 3)
  np.testing.assert_allclose(got[kept], want[kept], rtol=0, atol=1e-6)
  assert (got[0] != want[0]).all()


def test_tokens_around_an_image_are_those_of_the_model():
  def convert(model, config):
    return published_inputs.convert_image_text(model, config, {}, TOKENIZER)

  names = {'boi': 4, 'image': 3, 'eoi': 5}
  config = {f'{name}_token_index': i for name, i in names.items()}
  tokens = ('<|vision_start|>', '<image>', '<|vision_end|>')
  assert convert(gemma3.Model, config) == {
    'turns': {
      'image_text': ('\n\n', *tokens, '\n\n'),
      'image_mark': '<|vision_start|>',
    }
  }
  with pytest.raises(ConfigError, match='eoi_token_index is 99, which is not'):
    convert(gemma3.Model, {**config, 'eoi_token_index': 99})
  assert convert(janus.Model, {})['turns']['image_text'] == (
    '<begin_of_image>', '<image_placeholder>', '<end_of_image>'
  )  # fmt: skip
  assert convert(llava.Model, {}) == {}
