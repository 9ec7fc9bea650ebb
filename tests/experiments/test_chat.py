"""Runs that learn conversations, from scratch and from published models."""

import dataclasses
import json
import shutil
import threading
from pathlib import Path

import jax
import numpy as np
import PIL.Image
import pytest

import mmjax
from experiments import chat
from mmjax import pretrained
from mmjax.cli import main as cli
from mmjax.config import overrides, settings
from mmjax.data import sources
from mmjax.errors import ConfigError
from mmjax.inference import batching, chat_models, opened
from mmjax.runs import init_from, rebuild
from mmjax.training import runner
from tests.data import chat_forms

GOLDEN = Path(__file__).parents[1] / 'pretrained/golden'
CONFIGS = Path(__file__).parents[2] / 'configs'
TEMPLATE = (
  '{{ bos_token }}{% for m in messages %}{{ m.role + " " + m.content }}'
  '{{ eos_token }}{% endfor %}'
  '{% if add_generation_prompt %}{{ "assistant " }}{% endif %}'
)
MESSAGES = [
  {'role': 'system', 'content': 'a small red circle'},
  {'role': 'user', 'content': 'cat'},
]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A published model that chats."""
  folder = tmp_path_factory.mktemp('published')
  shutil.copytree(GOLDEN / 'llama', folder, dirs_exist_ok=True)
  (folder / 'chat_template.jinja').write_text(TEMPLATE)
  (folder / 'tokenizer_config.json').write_text(
    json.dumps({'bos_token': '<s>', 'eos_token': '</s>'})
  )
  return folder


def _make(make_config, source):
  config = make_config(source, 'chat_shapes.py')
  config.data.features.turns.update(length=61, system='')
  config.data.test_split = ''
  config.tasks.chat.max_new_tokens = 3
  return config


@pytest.fixture(scope='module')
def tuned(make_config, folder, tmp_path_factory):
  """A run of one step that changes nothing."""
  workdir = tmp_path_factory.mktemp('chat')
  return workdir, runner.run(_make(make_config, folder), chat.build, workdir)


@pytest.mark.slow
def test_a_run_chats_as_the_published_model_that_it_began_from(
  tuned, folder, tmp_path, capsys
):
  """By the run's own folder, by `predict`, and as a Hugging Face folder."""
  workdir, _ = tuned
  model, run = pretrained.load(folder), rebuild.load(workdir)
  jax.tree.map(np.testing.assert_array_equal, run.params, model.params)
  want = model.chat(MESSAGES, max_new_tokens=3)
  assert want
  assert run.chat(MESSAGES) == want.strip()
  assert cli.main(['predict', str(workdir), '--question=cat']) == 0
  answer = model.chat(MESSAGES[1:], max_new_tokens=3)
  assert capsys.readouterr().out == f'{answer.strip()}\n'
  assert cli.main(['convert', str(workdir), str(tmp_path / 'out')]) == 0
  again = mmjax.load(tmp_path / 'out')
  jax.tree.map(np.testing.assert_array_equal, again.params, model.params)
  assert again.chat_template == model.chat_template
  options = ['red', 'a small cat', want.strip()]
  scores = model.score_options(MESSAGES, options)
  assert run.score_options(MESSAGES, options) == pytest.approx(scores, rel=1e-4)
  assert run.chat(MESSAGES, stop=want.strip()[1:3]) == want.strip()[:1]
  sampled = [run.chat(MESSAGES, temperature=9.0, seed=i // 2) for i in range(8)]
  assert sampled[::2] == sampled[1::2] and len(set(sampled)) > 1
  with pytest.raises(ConfigError, match="role 'bot' in turn 2; use one of"):
    run.chat([MESSAGES[1], {'role': 'bot', 'content': 'x'}])


@pytest.mark.slow
def test_held_out_conversations_are_measured_by_token_and_by_answer(tuned):
  """The loss is that of the ids and of the mask that the template gives."""
  workdir, results = tuned
  run = rebuild.load(workdir)
  feature = run.preprocessor['turns']
  data = run.config.data
  model = pretrained.load(run.config.init_from)
  logits = model.jit_method('__call__', train=False)
  total = count = 0.0
  for record in sources.open_source(
    data.name, data.eval_split, data_dir=data.data_dir
  ):
    ids, loss_mask = feature.encode(feature.get(record))
    ids, loss_mask = np.array(ids[:61]), np.array(loss_mask[:61])
    out = logits(run.params, {'text': ids[None]})['text_logits'][0, :-1]
    losses = -jax.nn.log_softmax(out)[np.arange(len(ids) - 1), ids[1:]]
    total += losses[loss_mask[1:]].sum()
    count += loss_mask[1:].sum()
  np.testing.assert_allclose(
    results['val/turns/loss'], total / count, rtol=1e-4
  )
  assert results['val/turns/perplexity'] == pytest.approx(
    np.exp(results['val/turns/loss'])
  )
  # Eight questions are longer than the arrays.
  assert results['val/turns/too_long'] == 1 and not results['val/turns/exact']


@pytest.mark.slow
def test_a_vision_language_model_chats_as_published(
  make_config, tmp_path, capsys
):
  """The image's tokens stand where the template has its placeholder."""
  folder = shutil.copytree(GOLDEN / 'llava', tmp_path / 'llava')
  (folder / 'chat_template.jinja').write_text(
    chat_forms.unmark(chat_forms.LLAVA)
  )
  (folder / 'tokenizer_config.json').write_text(
    json.dumps({'eos_token': '</s>'})
  )
  # Training resizes images at once, so published images get one size too.
  settings_file = folder / 'preprocessor_config.json'
  preprocessing = json.loads(settings_file.read_text())
  side = preprocessing['crop_size']['height']
  preprocessing['size'] = {'shortest_edge': side}
  settings_file.write_text(json.dumps(preprocessing))
  model = pretrained.load(folder)
  config = _make(make_config, folder)
  config.model = {'name': 'interleaved'}
  config.data.features.turns.update(
    packed=False,
    image='image',
    image_tokens=model.tokens_per_image(),
    placeholder='<image>',
  )
  config.data.eval_split = ''
  config.tasks.chat.image = 'image'
  workdir = tmp_path / 'run'
  runner.run(config, chat.build, workdir)
  run = rebuild.load(workdir)
  jax.tree.map(np.testing.assert_array_equal, run.params, model.params)
  pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3))
  image = PIL.Image.fromarray(pixels.astype(np.uint8))
  image.save(tmp_path / 'a.png')
  content = [{'type': 'image', 'image': image}, 'a small red']
  messages = [{'role': 'user', 'content': content}]
  want = model.chat(messages, max_new_tokens=3)
  assert want.strip() == run.chat(messages)
  assert want.strip() == _serve(workdir, messages).strip()
  flags = [f'--image={tmp_path / "a.png"}', '--question=a small red']
  capsys.readouterr()
  assert cli.main(['predict', str(workdir), *flags]) == 0
  assert capsys.readouterr().out == f'{want.strip()}\n'
  with pytest.raises(ConfigError, match=r'has 2 images, .* reads one'):
    run.chat([{'role': 'user', 'content': [*content, content[0]]}])
  feature = run.preprocessor['turns']
  refers = [{'role': 'user', 'content': ['hi', {'field': 'image'}]}]
  with pytest.raises(ConfigError, match='cuts off tokens of an image'):
    dataclasses.replace(feature, length=9).make_arrays(
      feature.place(refers, {'fields': {'image': b'any'}})
    )
  with pytest.raises(ConfigError, match="turn 1 has the text '<image>', which"):
    feature.make_arrays([{'role': 'user', 'content': ['<image>']}])
  with pytest.raises(ConfigError, match="the field 'image', which the record"):
    feature.choose({'fields': {'questions': refers}}, None)
  config.data.features.turns.image_tokens += 1
  with pytest.raises(ConfigError, match=r'image_tokens is .*; set it to'):
    runner.run(config, chat.build, tmp_path / 'other')


@pytest.mark.slow
def test_images_of_any_size_are_learnt_with_adapters(make_config, tmp_path):
  """Packed, with rows and columns as positions; read as the published model."""
  folder = shutil.copytree(GOLDEN / 'qwen2_5_vl', tmp_path / 'qwen')
  (folder / 'chat_template.jinja').write_text(
    chat_forms.unmark(chat_forms.QWEN_VL)
  )
  (folder / 'tokenizer_config.json').write_text(
    json.dumps({'eos_token': '</s>'})
  )
  config = _make(make_config, folder)
  config.model = {'name': 'interleaved'}
  config.data.features = {
    'turns': {
      **config.data.features.turns.to_dict(),
      'image': 'photos',
      'length': 197,
    },
    'photos': {'kind': 'patches', 'field': 'image', 'tokens': 40},
  }
  config.data.eval_split = ''
  config.tasks.chat.image = 'photos'
  config.optimizer.update(lr=0.05, schedule='constant')
  config.adapter = {
    'layers': ('attention/(query|value)$', 'vision/.*mlp/', 'merger/'),
    'rank': 2,
    'alpha': 4.0,
    'frozen_dtype': 'float32',
  }
  workdir = tmp_path / 'run'
  runner.run(config, chat.build, workdir)
  run, base = rebuild.load(workdir), pretrained.load(folder)
  photos = run.preprocessor['photos']
  assert (photos.patch_size, photos.min_pixels, photos.window) == (4, 128, 2)
  assert photos.mean == pytest.approx(base.preprocessor.image_preprocessor.mean)
  assert run.preprocessor['turns'].placeholder == '<|image_pad|>'
  assert cli.main(['convert', str(workdir), str(tmp_path / 'out')]) == 0
  model = mmjax.load(tmp_path / 'out')
  rng = np.random.default_rng(1)
  images = [
    PIL.Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8))
    for size in ((40, 31), (19, 31))
  ]
  see = [{'type': 'image', 'image': image} for image in images]
  content = [see[0], 'a cat', see[1]]
  messages = [MESSAGES[0], {'role': 'user', 'content': content}]
  want = model.chat(messages, max_new_tokens=5).strip()
  assert want and run.chat(messages, max_new_tokens=5) == want
  changed = jax.tree.leaves(
    jax.tree.map(lambda a, b: np.any(a != b), model.params, base.params)
  )
  assert 6 <= sum(changed) < len(changed)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('family', 'template', 'tokens', 'images'),
  [
    ('idefics3', chat_forms.SMOLVLM, 4, {'kind': 'tiles', 'number': 12}),
    ('llava_onevision', chat_forms.LLAVA, 16, {'kind': 'tiles', 'number': 6}),
    ('qwen3_vl', chat_forms.QWEN_VL, 0, {'kind': 'patches', 'tokens': 40}),
  ],
)
def test_images_of_any_size_are_read_as_published(
  family, template, tokens, images, make_config, tmp_path
):
  """One image, and two, of a run that learnt nothing."""
  folder = shutil.copytree(GOLDEN / family, tmp_path / family)
  (folder / 'chat_template.jinja').write_text(chat_forms.unmark(template))
  (folder / 'tokenizer_config.json').write_text(
    json.dumps({'eos_token': '</s>'})
  )
  config = _make(make_config, folder)
  config.model = {'name': 'interleaved'}
  config.data.features = {
    'turns': {
      **config.data.features.turns.to_dict(),
      'image': 'photos',
      'image_tokens': tokens,
      'length': 251,
    },
    'photos': {**images, 'field': 'image'},
  }
  config.data.eval_split = ''
  config.tasks.chat.image = 'photos'
  runner.run(config, chat.build, tmp_path / 'run')
  run, model = rebuild.load(tmp_path / 'run'), pretrained.load(folder)
  rng = np.random.default_rng(1)
  see = [
    {'type': 'image', 'image': PIL.Image.fromarray(pixels)}
    for pixels in (
      rng.integers(0, 256, (*size, 3), np.uint8)
      for size in ((40, 31), (19, 31))
    )
  ]
  for content in ([see[0], 'a cat'], [see[0], 'a', see[1], 'cat']):
    messages = [{'role': 'user', 'content': content}]
    want = model.chat(messages, max_new_tokens=5).strip()
    assert want and run.chat(messages, max_new_tokens=5) == want


def test_weights_bring_how_images_are_prepared(make_config):
  """Their size, and what stands for them; and other patches are refused."""
  config = _make(make_config, GOLDEN / 'llava')
  config.model = {'name': 'interleaved'}
  turns = {'kind': 'turns', 'image': 'photos', 'image_tokens': 9}
  config.data.features = {
    'turns': {**turns, 'field': 'questions', 'length': 197},
    'photos': {'kind': 'images', 'field': 'image', 'number': 2},
  }
  config.tasks.chat.image = 'photos'
  features = init_from.resolve(settings.complete(config)).data.features
  assert features.turns.placeholder == '<image>'
  assert features.photos.size == (21, 21) and features.photos.number == 2
  config.init_from = str(GOLDEN / 'gemma3')
  features = init_from.resolve(settings.complete(config)).data.features
  assert features.turns.image_mark == '<|vision_start|>'
  assert features.turns.image_text[1:3] == ('<|vision_start|>', '<image>')
  config = overrides.load(f'{CONFIGS}/chat_patches.py:runlocal')
  config.data.features.photos.temporal_patch_size = 2
  with pytest.raises(
    ConfigError, match=r'size is 2, but model\.vision\.temporal_patch_size is 1'
  ):
    chat.build(settings.complete(config), None)
  config.data.features.photos.kind = 'images'
  for name in ('tokens', 'patch_size', 'merge_size', 'temporal_patch_size'):
    del config.data.features.photos[name]
  config.data.features.turns.update(image_tokens=9, packed=False)
  with pytest.raises(ConfigError, match="make it of the kind 'patches'"):
    chat.build(settings.complete(config), None)


def _serve(workdir, messages):
  """The answer of a server with the run."""
  model = chat_models.open_chat_model(opened.open_model(str(workdir)))
  pieces, ended = [], threading.Event()

  def notify(text, tokens, end):
    del tokens
    pieces.append(text)
    if end is not None:
      ended.set()

  settings = batching.make_settings(model, seed=0, number=0, max_new_tokens=3)
  engine = batching.Engine(model, batch_size=1)
  prompt = model.prepare(messages)
  engine.submit(batching.Answer(prompt, settings, notify))
  assert ended.wait(60)
  engine.close()
  return ''.join(pieces)


@pytest.mark.parametrize('family', ['gpt2', 'qwen2', 'mistral', 'opt'])
def test_language_models_of_several_families_can_be_trained(
  family, make_config
):
  config = _make(make_config, GOLDEN / family)
  assert init_from.resolve(config).model.name == 'language_model'


def test_the_config_is_refused_without_room_for_an_answer(make_config):
  config = _make(make_config, '')
  config.tasks.chat.max_new_tokens = 61
  with pytest.raises(ConfigError, match='max_new_tokens=61 leaves no room'):
    chat.build(settings.complete(config), None)
