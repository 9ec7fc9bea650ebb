"""Language models that see or hear, here, equal those of transformers."""

import dataclasses
import json
import math
import pathlib
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
import torch
import transformers

from mmjax import pretrained
from mmjax.ops import anyres, packing
from mmjax.pretrained import (
  configs,
  idefics3,
  llava_onevision,
  patches,
  qwen2_audio,
  qwen_vl,
)
from tests.oracles import harness
from tests.oracles import vision_language_configs as models

GOLDEN = pathlib.Path(__file__).parents[1] / 'pretrained/golden'


def original(name):
  torch.manual_seed(0)
  make, make_model, make_text, make_vision, more = models.FAMILIES[
    name.split('_')[0]
  ]
  text, vision, both = models.CONFIGS[name]
  config = make(
    text_config=make_text(**text),
    vision_config=make_vision(**vision),
    **more,
    **both,
  )
  model = harness.randomise(make_model(config), 0.3)
  for key, parameter in model.named_parameters():
    # Words outweighed by their blocks, or each would be followed by itself.
    if parameter.ndim > 1 and not re.search('embed|lm_head|vis', key):
      parameter.data *= 2
    elif 'post_feedforward' in key:
      parameter.data += 3
  return model


@pytest.fixture(scope='module', params=models.CONFIGS)
def pair(request, tmp_path_factory):
  model = original(request.param)
  folder = tmp_path_factory.mktemp(request.param)
  return model, harness.load_saved(model, folder)


def words(rng, number):
  return rng.integers(6, models.SEEN - 1, number).tolist()


def pad_rows(rows, left, fill=models.PAD):
  """Rows of any lengths as one array, and its mask."""
  longest = max(map(len, rows))
  out = np.full((len(rows), longest, *np.shape(rows[0])[1:]), fill)
  mask = np.zeros(out.shape[:2], bool)
  for i, row in enumerate(rows):
    place = slice(longest - len(row), None) if left else slice(len(row))
    out[i, place], mask[i, place] = row, True
  return out, mask


def qwen_batch(loaded, left):
  """Images of several sizes and a video; a text has both, one has none."""
  rng = np.random.default_rng(0)
  video = {'video': True}
  grids = [
    # Not longer than it is high: see `packing.rotary_positions`.
    [packing.Grid(1, 2, 4), packing.Grid(2, 5, 1, **video)],
    [packing.Grid(1, 3, 3)],
    [],
  ]
  vision = loaded.module.vision
  config = loaded.config['vision_config']
  size = 3 * config['temporal_patch_size'] * config['patch_size'] ** 2
  pixels = [
    [
      rng.normal(size=(grid.tokens * vision.merge_size**2, size))
      for grid in row
    ]
    for row in grids
  ]
  # In a text, a video may be several.
  own = [
    [
      part
      for grid in row
      for part in (loaded.split_grid(grid) if grid.video else [grid])
    ]
    for row in grids
  ]
  rows = []
  for row in own:
    rows.append([1, *words(rng, 3)])
    for grid in row:
      seen = [models.SEEN - grid.video] * grid.tokens
      rows[-1] += [2, *seen, 3, *words(rng, 2)]
  ids, mask = pad_rows(rows, left)
  positions = [
    packing.rotary_positions(row, of_row, (models.SEEN, models.SEEN - 1))
    for row, of_row in zip(rows, own, strict=True)
  ]
  ours = {
    'text': jnp.asarray(ids),
    'text_mask': jnp.asarray(mask),
    'text_positions': jnp.asarray(pad_rows(positions, left)[0]),
    **loaded.pack_patches(pixels, own),
  }
  side = vision.merge_size
  kinds = (ids == models.SEEN) + 2 * (ids == models.SEEN - 1)
  theirs = {
    'input_ids': torch.tensor(ids),
    'attention_mask': torch.tensor(mask).long(),
    'mm_token_type_ids': torch.tensor(kinds).int(),
  }
  for key, suffix, is_video in (
    ('image', '', False),
    ('video', '_videos', True),
  ):
    found = [
      (array, [grid.times, grid.rows * side, grid.columns * side])
      for row, of_row in zip(pixels, grids, strict=True)
      for array, grid in zip(row, of_row, strict=True)
      if grid.video == is_video
    ]
    arrays = np.concatenate([array for array, _ in found]).astype(np.float32)
    theirs[f'pixel_values{suffix}'] = torch.tensor(arrays)
    theirs[f'{key}_grid_thw'] = torch.tensor([grid for _, grid in found])
  if loaded.config['model_type'] == 'qwen2_5_vl':
    seconds = config['temporal_patch_size'] / loaded.frames_per_second
    theirs['second_per_grid_ts'] = torch.tensor([seconds])
  return theirs, ours


def onevision_batch(loaded, left):
  """Two images of a tile, one of several beside a video, and none."""
  rng = np.random.default_rng(0)
  side = loaded.vision_config()['image_size']
  tokens = loaded.tokens_per_image()
  root = math.isqrt(tokens)
  both = loaded.config
  size = (2 * side + 1, 3 * side - 3)
  shape = anyres.choose_size(
    size, [tuple(pair) for pair in both['image_grid_pinpoints']]
  )
  grid = [length // side for length in shape]
  most = int(both['vision_aspect_ratio'].removeprefix('anyres_max_'))
  tiled = anyres.lay_out_tiles(size, *grid, root, most)
  number = 1 + grid[0] * grid[1]
  pixels = [
    rng.normal(size=(count, side, side, 3)).astype(np.float32)
    for count in (1, 1, number, 3)
  ]
  whole = anyres.lay_out_whole(root)
  video = anyres.lay_out_frames(3, root).shift(number * tokens)
  layouts = [[whole, whole.shift(tokens)], [tiled, video], []]
  rows = [
    [1, *words(rng, 2), *seen_as(whole), *words(rng, 3), *seen_as(whole), 7],
    [1, *seen_as(tiled), *words(rng, 2), *seen_as(video, models.SEEN - 1), 8],
    [1, *words(rng, 7)],
  ]
  ids, mask = pad_rows(rows, left)
  stacked = [np.concatenate(pixels[:2]), np.concatenate(pixels[2:]), []]
  ours = {
    'text': jnp.asarray(ids),
    'text_mask': jnp.asarray(mask),
    **loaded._stack(stacked, layouts),
  }
  theirs = np.zeros((3, number, side, side, 3), np.float32)
  for i, array in enumerate(pixels[:3]):
    theirs[i, : len(array)] = array
  return {
    'input_ids': torch.tensor(ids),
    'attention_mask': torch.tensor(mask).long(),
    'pixel_values': torch.tensor(theirs).permute(0, 1, 4, 2, 3),
    'pixel_values_videos': torch.tensor(pixels[3])[None].permute(0, 1, 4, 2, 3),
    'image_sizes': torch.tensor([(7, 5), (side, side), size]),
    'batch_num_images': torch.tensor([2, 1]),
  }, ours


def audio_batch(loaded, left):
  """Two sounds of other lengths, one that fills its window, and none."""
  rng = np.random.default_rng(0)
  audio = loaded.config['audio_config']
  most, bands = 2 * audio['max_source_positions'], audio['num_mel_bins']
  frames = np.asarray([[11, 7], [most, 0], [0, 0]])
  tokens = [[seen_as(range((n + 1) // 4)) for n in row] for row in frames]
  rows = [
    [1, *words(rng, 2), *tokens[0][0], *words(rng, 3), *tokens[0][1], 7],
    [1, *tokens[1][0], *words(rng, 5)],
    [1, *words(rng, 7)],
  ]
  ids, mask = pad_rows(rows, left)
  spectrogram = rng.normal(size=(3, 2, most, bands)).astype(np.float32)
  ours = {
    'text': jnp.asarray(ids),
    'text_mask': jnp.asarray(mask),
    **loaded.pack_spectrograms(spectrogram, frames),
  }
  sounds = frames > 0
  real = np.arange(most) < frames[sounds][:, None]
  return {
    'input_ids': torch.tensor(ids),
    'attention_mask': torch.tensor(mask).long(),
    'input_features': torch.tensor(spectrogram[sounds]).permute(0, 2, 1),
    'feature_attention_mask': torch.tensor(real).long(),
  }, ours


def seen_as(layout, token=models.SEEN):
  return [token] * len(layout)


def batch(loaded, left=False):
  """Three texts with two, one and no images, and padding on either side."""
  if isinstance(loaded, qwen_vl.QwenVL):
    return qwen_batch(loaded, left)
  if isinstance(loaded, llava_onevision.Model):
    return onevision_batch(loaded, left)
  if isinstance(loaded, qwen2_audio.Model):
    return audio_batch(loaded, left)
  rng = np.random.default_rng(0)
  seen = [models.SEEN] * loaded.tokens_per_image()
  rows = [
    [1, *words(rng, 2), *seen, *words(rng, 3), *seen, *words(rng, 2)],
    [1, *seen, *words(rng, 5)],
    [1, *words(rng, 7)],
  ]
  ids, mask = pad_rows(rows, left)
  side = loaded.vision_config()['image_size']
  images = rng.normal(size=(3, 2, side, side, 3)).astype(np.float32)
  flat_images = np.concatenate([images[0], images[1, :1]])
  theirs = {
    'input_ids': torch.tensor(ids),
    'attention_mask': torch.tensor(mask).long(),
    'pixel_values': torch.tensor(flat_images).permute(0, 3, 1, 2),
  }
  ours = {
    'text': jnp.asarray(ids),
    'text_mask': jnp.asarray(mask),
    'image': jnp.asarray(images),
  }
  if isinstance(loaded, idefics3.Model):
    absent = np.asarray([[1, 1], [1, 0], [0, 0]])[:, :, None, None, None]
    pixels = torch.tensor(images * absent).permute(0, 1, 4, 2, 3)
    theirs['pixel_values'] = pixels.float()
  if loaded.module.image_blocks:
    theirs['token_type_ids'] = torch.tensor(ids == models.SEEN).long()
  if loaded.module.prefix:
    # The last two tokens that are there see what is before them alone.
    ends = mask.sum(axis=1)[:, None] - 2
    prefix = mask & (np.arange(ids.shape[1])[None] < ends)
    prefix = mask if left else prefix
    theirs['token_type_ids'] = torch.tensor(~prefix & mask).long()
    ours['prefix_mask'] = jnp.asarray(prefix)
  return theirs, ours


def test_outputs_agree(pair):
  model, loaded = pair
  theirs, ours = batch(loaded)
  mask = np.asarray(ours['text_mask'])
  with torch.no_grad():
    want = model(**theirs).logits.numpy()
  got = loaded._forward(loaded.params, ours)['text_logits']
  assert want[mask].std(axis=0).min() > 0.1
  harness.check_close(np.asarray(got)[mask], want[mask])


def test_gradients_agree(pair):
  model, loaded = pair
  theirs, ours = batch(loaded)
  mask = np.asarray(ours['text_mask'])

  def loss(params):
    out = loaded.module.apply({'params': params}, ours, train=False)
    return jnp.mean(out['text_logits'][mask] ** 2)

  def their_loss(model):
    return (model(**theirs).logits[torch.tensor(mask)] ** 2).mean()

  harness.check_gradients(model, loaded, their_loss, loss)


def test_what_is_saved_loads_there(pair, tmp_path):
  harness.check_saved(*pair, tmp_path)


def test_greedy_writing_agrees(pair):
  model, loaded = pair
  theirs, _ = batch(loaded, left=True)
  want = model.generate(
    **theirs, max_new_tokens=20, do_sample=False, pad_token_id=models.PAD
  )[:, theirs['input_ids'].shape[1] :]
  want = np.pad(want, ((0, 0), (0, 20 - want.shape[1])))
  program = loaded.jit_method(
    'generate',
    text_kind='continue',
    max_new_tokens=20,
    eos_id=(models.EOS,),
    pad_id=models.PAD,
  )
  for left in (False, True):
    ours = batch(loaded, left)[1]
    ours.pop('prefix_mask', None)  # All of a prompt is its prefix.
    got = program(loaded.params, ours).tokens
    np.testing.assert_array_equal(got, want)
  assert len(np.unique(want)) > 5


@pytest.mark.parametrize('size', [(50, 31), (31, 50), (5, 5), (20, 190)])
def test_images_are_cut_alike(size, tmp_path):
  processor = transformers.Qwen2VLImageProcessorPil(
    patch_size=4, min_pixels=8 * 16, max_pixels=32 * 40
  )
  processor.save_pretrained(tmp_path)
  config = json.loads((tmp_path / 'preprocessor_config.json').read_text())
  pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
  image = PIL.Image.fromarray(pixels)
  want = processor(image, return_tensors='np')
  ours = patches.PatchPreprocessor.from_config(
    config, qwen_vl.QwenVL.image_defaults
  )
  got, grid = ours([image])
  shape = [[grid.times, 2 * grid.rows, 2 * grid.columns]]
  np.testing.assert_array_equal(want['image_grid_thw'], shape)
  harness.close(got, want['pixel_values'], atol=1e-6)


def test_what_a_model_in_bfloat16_was_tuned_by_arrives(tmp_path):
  """In float32, whatever its config said; changes of 0.1% are seen there."""
  source = shutil.copytree(GOLDEN / 'llava', tmp_path / 'in')
  path = source / 'config.json'
  config = json.loads(path.read_text())
  path.write_text(json.dumps(configs.set_dtype(config, 'bfloat16')))
  loaded = pretrained.load(source)
  tuned = jax.tree.map(lambda leaf: leaf * 1.001, loaded.params)
  tuned = dataclasses.replace(loaded, params=tuned)
  pretrained.save(tuned, tmp_path / 'out')
  theirs = transformers.LlavaForConditionalGeneration.from_pretrained(
    tmp_path / 'out'
  )
  theirs.save_pretrained(tmp_path / 'back')
  back = pretrained.load(tmp_path / 'back').params
  jax.tree.map(np.testing.assert_array_equal, back, tuned.params)
