"""Models that learn conversations with images and others in their places."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from mmjax.data import (
  batches,
  conversation_packing,
  preprocess,
  tokenizers,
)
from mmjax.errors import ConfigError
from mmjax.models import conversations, interleaved_inputs
from tests.models import conversation_models as cases

KINDS = pytest.mark.parametrize('kind', cases.TOKENS)
ROWS = len(cases.TALKS)
# Four images of four tiles and the whole.
TILED = ([(8, 8)] * 4, ['e'])


@pytest.fixture(scope='module')
def made(draw):
  """By kind: (params, batch) -> loss and gradient, parameters, and batches."""
  out = {}
  for kind in cases.TOKENS:
    prepare = cases.make_preprocessor(kind)
    source = cases.make_source(kind)
    alone = cases.stack(prepare, source, ROWS)
    model = cases.make_model(kind)
    inputs = prepare.make_inputs(cases.as_arrays(alone))
    params = draw(model, inputs, train=False)['params']
    measure = cases.make_measure(model, prepare.make_inputs)
    out[kind] = measure, params, alone
  return out


@KINDS
def test_packed_equals_unpacked(kind, made):
  """Loss, number of tokens and every gradient; not with other segments."""
  measure, params, alone = made[kind]
  source, prepare = conversation_packing.pack(
    cases.make_source(kind), cases.make_preprocessor(kind), 0
  )
  assert len(source) < ROWS - 2
  packed = cases.stack(prepare, source, ROWS)
  want = measure(params, alone)
  cases.check_close(measure(params, packed), want)
  for key in ('t_segments', 'photos_segments'):
    if key in packed:
      mixed = {**packed, key: (packed[key] > 0).astype(np.int32)}
      (loss, _), _ = measure(params, mixed)
      assert abs(loss - want[0][0]) > 1e-4, key


@KINDS
def test_rows_with_images_and_without_do_not_change_each_other(kind, made):
  """The mean of a batch is that of its rows, whatever stands beside them."""
  measure, params, alone = made[kind]
  (want, count), _ = measure(params, alone)
  total = 0.0
  for row in range(ROWS):
    blank = np.arange(ROWS) == row
    one = {
      k: np.where(_fit(blank, v), v, v.dtype.type(0)) for k, v in alone.items()
    }
    (loss, number), _ = measure(params, one)
    total += loss * number
  np.testing.assert_allclose(total / count, want, rtol=1e-5)


def _fit(mask, array):
  return mask.reshape(-1, *(1,) * (array.ndim - 1))


@KINDS
def test_what_stands_where_no_image_is_changes_nothing(kind, made):
  """Noise in unused images, and NaN behind the normalisation."""
  measure, params, alone = made[kind]
  want = measure(params, alone)
  mask = alone['photos_mask']
  noise = np.random.default_rng(0).integers(0, 256, alone['photos'].shape)
  shaped = mask.reshape(*mask.shape, *(1,) * (noise.ndim - mask.ndim))
  spoilt = np.where(shaped, alone['photos'], noise)
  spoilt = spoilt.astype(alone['photos'].dtype)
  got = measure(params, {**alone, 'photos': spoilt})
  np.testing.assert_array_equal(got[0][0], want[0][0])
  got = measure(params, alone, spoils=True)
  jax.tree.map(np.testing.assert_array_equal, got, want)


@KINDS
def test_packed_batches_resume_exactly(kind):
  source, prepare = conversation_packing.pack(
    cases.make_source(kind), cases.make_preprocessor(kind), 3
  )
  make = lambda: batches.TrainBatches(source, prepare, batch_size=2, seed=5)
  with make().iterate(0) as first, make().iterate(3) as later:
    whole = [next(first) for _ in range(5)]
    for want, got in zip(whole[3:], later, strict=False):
      for key, array in want.items():
        np.testing.assert_array_equal(got[key], array, key)
  images = sum(batch['photos_mask'].any() for batch in whole)
  assert images and max(b['t_segments'].max() for b in whole) > 1


@pytest.mark.parametrize(
  ('kind', 'change', 'words'),
  [
    ('images', {'photos': 1}, r'turn 1 refers to image 2 .* record has 1'),
    ('patches', {'photos': 3}, "refer to 2 images, .* 'photos' .* has 3"),
    (
      'images',
      {'photos': 4},
      r'4 images, but data.features.photos.number is 3',
    ),
    ('images', {'photos': 0}, "turn 1 refers to the field 'photos', which the"),
    ('sounds', {'photos': 1}, r'turn 1 refers to sound 2 .* record has 1'),
    ('videos', {'photos': 3}, "refer to 1 videos, .* 'photos' .* has 3"),
  ],
)
def test_other_numbers_of_images_than_references_are_refused(
  kind, change, words
):
  record = cases.make_record(7, cases.TALKS[2], kind)
  images = [cases.encode(kind, 8, 8)] * change['photos']
  record['fields']['photos'] = images or None
  source = cases.sources.ListSource([record])
  stream = batches.TrainBatches(
    source, cases.make_preprocessor(kind), batch_size=1, seed=0
  )
  with (
    stream.iterate(0) as ahead,
    pytest.raises(ConfigError, match=f"record 'r7' .*{words}"),
  ):
    next(ahead)


def test_what_does_not_fit_is_refused_or_counted():
  """A row that is too short for an image, and images that are too many."""
  record = cases.make_record(3, cases.TALKS[2])
  short = cases.make_preprocessor('patches', length=10)
  with pytest.raises(ConfigError, match=r'length 10 of .* tokens of an image'):
    short(record, np.random.default_rng(0))
  talk = (*cases.TALKS, ([(8, 8)] * 4, ['e']))
  prepare = cases.make_preprocessor('patches')
  with pytest.raises(ConfigError, match=r'16 tokens, more than .*tokens=12'):
    prepare(cases.make_record(8, talk[-1]))
  with pytest.raises(ConfigError, match=r'20 tiles, more than .*number=12'):
    cases.make_preprocessor('tiles')(cases.make_record(8, TILED))
  source, packed = conversation_packing.pack(
    cases.make_source('patches', talk), prepare, 0
  )
  assert (8,) in source.rows
  stream = batches.TrainBatches(
    source, packed, batch_size=16, seed=0, on_error='replace'
  )
  with stream.iterate(0) as ahead:
    assert 0 < next(ahead)['replaced'].sum() < 16


def test_several_fields_of_images_are_read_in_the_order_of_the_text():
  """The right one first, the left one later; tokens of images aren't learnt."""
  image = {'kind': 'image', 'size': (4, 6)}
  prepare = preprocess.Preprocessor(
    preprocess.build(
      {
        't': {
          'kind': 'turns',
          'length': cases.LENGTH,
          'image': ('left', 'right'),
          'image_tokens': 2,
          'placeholder': cases.PLACEHOLDER,
        },
        'left': image,
        'right': image,
      }
    ),
    tokenizers.make_byte_tokenizer(),
  )
  turns = [
    {'role': 'user', 'content': [{'field': 'right'}, 'or?']},
    {'role': 'assistant', 'content': ['no, ', {'field': 'left'}]},
  ]
  files = {'left': cases.encode_image(4, 6), 'right': cases.encode_image(6, 4)}
  record = {'id': '0', 'fields': {'t': turns, **files}, 'metadata': {}}
  example = prepare(record, np.random.default_rng(0))
  np.testing.assert_array_equal(example['t_slots'], [1, 0])
  is_image = example['t'] == 3
  assert is_image.sum() == 4 and example['t_loss_mask'].sum() > 4
  assert not (example['t_loss_mask'] & is_image).any()
  batch = cases.as_arrays({key: v[None] for key, v in example.items()})
  inputs = prepare.make_inputs(batch)
  images = ('left', 'right')
  chosen = interleaved_inputs.select(inputs, 't', images, has_axes=False)
  joined = chosen['image']
  np.testing.assert_array_equal(joined[:, 0], inputs['right'])
  np.testing.assert_array_equal(joined[:, 1], inputs['left'])
  turns[0]['content'].append({'field': 'top'})
  with pytest.raises(ConfigError, match=r"turn 1 .* 'top', .* left, right in"):
    prepare(record)
  turns[0]['content'].pop()
  del record['fields']['left']
  with pytest.raises(ConfigError, match="turn 2 refers to the field 'left'"):
    prepare(record)


@pytest.mark.parametrize(
  ('kind', 'settings', 'words'),
  [
    ('patches', {'image_tokens': 4}, 'image_tokens=4 is not legal'),
    ('images', {'image_tokens': 0}, "image='photos' needs image_tokens"),
    ('images', {'placeholder': ''}, "image='photos' needs placeholder"),
    ('images', {'image_text': ('a',)}, 'image_text=.* has placeholder=.* once'),
    ('images', {'image_mark': 'a'}, "image_mark='a' needs image_text too"),
    ('tiles', {'image_tokens': 0}, "image='photos' needs image_tokens"),
    ('omni', {'sound_placeholder': '<unk>'}, 'is that of images too; use ano'),
  ],
)
def test_settings_that_contradict_each_other_are_refused(kind, settings, words):
  with pytest.raises(ConfigError, match=words):
    cases.make_preprocessor(kind, **settings)


def test_images_beside_sounds_need_the_width_of_words():
  model = cases.make_model('omni')
  narrow = model.clone(vision=model.vision.clone(out_width=10))
  prepare = cases.make_preprocessor('omni')
  batch = cases.stack(prepare, cases.make_source('omni'), 8)
  with pytest.raises(ConfigError, match=r'out_width is 10, .*set model.image_'):
    jax.eval_shape(
      lambda: narrow.init(
        jax.random.key(0), prepare.make_inputs(batch), train=False
      )
    )


def test_a_model_that_hears_keeps_the_placeholder_of_sounds():
  """Also where its conversations have none: the last one is that of sounds."""
  prepare = cases.make_preprocessor('omni')
  described = {'placeholders': (3, 2, 1), 'audio': {'name': 'any'}}
  for left_out, want in (('', (3, 1)), ('image', (1,)), ('sound', (3, 1))):
    changed = {left_out: ''} if left_out else {}
    feature = dataclasses.replace(prepare['t'], **changed)
    got = conversations.set_placeholder(described, feature, prepare.tokenizer)
    assert got['placeholders'] == want


@pytest.mark.slow
def test_on_eight_devices(on_eight_devices):
  on_eight_devices(Path(__file__).parent / 'eight_devices_conversations.py')
