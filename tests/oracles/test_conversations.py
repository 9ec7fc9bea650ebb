"""Conversations with images are prepared here as processors there do."""

import collections
import io
import json
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
import transformers

from experiments import chat
from mmjax import pretrained
from mmjax.cli import main as cli
from mmjax.config import overrides
from mmjax.data import builders, shapes
from mmjax.runs import rebuild
from mmjax.training import runner
from tests.data import chat_forms
from tests.oracles import conversation_families as families
from tests.oracles import conversations

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / 'tests/pretrained/golden'


def _draw(rng):
  pixels = rng.integers(0, 256, (*rng.integers(5, 60, 2), 3), np.uint8)
  image, file = PIL.Image.fromarray(pixels), io.BytesIO()
  image.save(file, 'PNG')
  return 'photos', file.getvalue(), {'type': 'image', 'image': image}


def _make_rope(name):
  """What finds the positions of a Qwen-VL; weights have no part in it."""
  config = getattr(transformers, f'{name}Config')(
    text_config={'hidden_size': 64, 'num_hidden_layers': 1},
    vision_config={'depth': 1, 'deepstack_visual_indexes': []},
  )
  with torch.device('meta'):
    return getattr(transformers, f'{name}Model')(config)


@pytest.mark.parametrize('name', families.FORMS)
def test_conversations_are_those_of_the_processor(name, tmp_path):
  """Ids, what is learnt, positions, and pixels where they are the same."""
  family = families.make(name)
  form = families.FORMS[name]
  ours = conversations.build(
    tmp_path,
    family.tokenizer,
    (chat_forms.mark(form), chat_forms.unmark(form)),
    family.turns,
    photos=family.photos,
  )
  model = _make_rope(name) if name in families.QWEN_VL else None
  numbers = collections.Counter()
  for messages, record in conversations.make_records(_draw):
    want, example = conversations.compare(
      family.processor, messages, ours, record
    )
    numbers[len(record['fields'].get('photos', ()))] += 1
    if 'pixel_values' in want and name not in families.RESIZED:
      inputs = ours.prepare.make_inputs(
        {key: array[None] for key, array in example.items()}
      )
      real = example['photos_mask']
      pixels = np.asarray(want['pixel_values'])
      if name not in families.QWEN_VL:
        pixels = pixels.reshape(-1, *pixels.shape[-3:]).transpose(0, 2, 3, 1)
      np.testing.assert_allclose(
        inputs['photos'][0, real], pixels, rtol=0, atol=1e-6
      )
    if model:
      tokens = torch.tensor(want['input_ids'])
      grids = want.get('image_grid_thw')
      positions, _ = model.get_rope_index(
        tokens,
        (tokens == family.processor.image_token_id).int(),
        None if grids is None else torch.tensor(np.asarray(grids)),
      )
      np.testing.assert_array_equal(
        example['t_rotary'][example['t_mask']].T, positions[:, 0].numpy()
      )
  assert numbers[0] and max(numbers) > 4


def test_a_tuned_model_is_loaded_there(tmp_path):
  """With adapters, on packed conversations; its greedy answers are the same."""
  folder = shutil.copytree(GOLDEN / 'qwen2_5_vl', tmp_path / 'qwen')
  template = chat_forms.unmark(chat_forms.QWEN_VL)
  (folder / 'chat_template.jinja').write_text(template)
  (folder / 'tokenizer_config.json').write_text(
    json.dumps({'eos_token': '</s>'})
  )
  small = shapes.ShapesConfig(
    'tiny', train=8, validation=4, test=4, compositional=4
  )
  builders.build(
    lambda data_dir: shapes.Shapes(config=small, data_dir=data_dir),
    tmp_path / 'data',
    progress=False,
  )
  config = overrides.load(f'{ROOT}/configs/chat_patches.py:runlocal')
  config.init_from = str(folder)
  config.data.update(
    name='shapes/tiny',
    data_dir=str(tmp_path / 'data'),
    eval_split='',
    test_split='',
    extra_splits=(),
  )
  config.data.features.turns.length = 197
  config.data.features.photos.tokens = 40
  config.adapter = {
    'layers': ('attention/(query|key|value|out)$',),
    'rank': 2,
    'frozen_dtype': 'float32',
  }
  config.optimizer.update(lr=0.05, schedule='constant', warmup_steps=0)
  config.train.update(steps=2, batch_size=2, eval_every=0, keep_best='')
  runner.run(config, chat.build, tmp_path / 'run')
  assert (
    cli.main(['convert', str(tmp_path / 'run'), str(tmp_path / 'out')]) == 0
  )
  theirs = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(
    tmp_path / 'out'
  ).eval()
  before = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(
    folder
  )
  changed = [
    name
    for (name, one), two in zip(
      before.named_parameters(), theirs.parameters(), strict=True
    )
    if not torch.equal(one, two)
  ]
  assert any('visual' in name for name in changed)
  assert any('language_model' in name for name in changed)
  run = rebuild.load(tmp_path / 'run')
  rng = np.random.default_rng(1)
  image = PIL.Image.fromarray(rng.integers(0, 256, (40, 31, 3), np.uint8))
  content = [{'type': 'image', 'image': image}, {'type': 'text', 'text': 'cat'}]
  messages = [{'role': 'user', 'content': content}]
  processor = families.drop_videos(transformers.Qwen2_5_VLProcessor)(
    transformers.Qwen2VLImageProcessorPil.from_pretrained(folder),
    transformers.PreTrainedTokenizerFast(
      tokenizer_file=str(folder / 'tokenizer.json'), eos_token='</s>'
    ),
    None,
    chat_template=template,
  )
  inputs = processor.apply_chat_template(
    messages,
    add_generation_prompt=True,
    tokenize=True,
    return_dict=True,
    return_tensors='pt',
  )
  written = theirs.generate(
    **inputs, max_new_tokens=6, do_sample=False, pad_token_id=1
  )[0, inputs['input_ids'].shape[1] :]
  want = processor.tokenizer.decode(written, skip_special_tokens=True)
  assert want.strip() and run.chat(messages, max_new_tokens=6) == want.strip()
  assert (
    pretrained.load(tmp_path / 'out').chat(messages, max_new_tokens=6).strip()
    == want.strip()
  )
