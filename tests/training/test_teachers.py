"""A published model of images and texts is a teacher of its embeddings."""

import types
from pathlib import Path

import jax
import numpy as np
import pytest

from mmjax import models, pretrained, tasks
from mmjax.data import preprocess, tokenizers
from mmjax.errors import ConfigError
from mmjax.ops import tree_paths
from mmjax.training import teachers
from mmjax.training.frozen import FrozenModel

CLIP = Path(__file__).parents[1] / 'pretrained' / 'golden' / 'clip'


@pytest.fixture(scope='module')
def clip():
  return pretrained.load(CLIP)


def make_preprocessor(clip, tokenizer=None, **image):
  settings = clip.preprocessor
  built = preprocess.build(
    {
      'photo': {
        'kind': 'image',
        'size': clip.image_size,
        'resize': 'crop',
        'mean': tuple(map(float, settings.mean)),
        'std': tuple(map(float, settings.std)),
      }
      | image,
      'words': {'kind': 'text', 'length': 7},
    }
  )
  tokenizer = tokenizer or tokenizers.Tokenizer.load(CLIP / 'tokenizer.json')
  return preprocess.Preprocessor(built, tokenizer)


def load(clip, target, *, source=CLIP, **settings):
  width = clip.module.embed_dim
  prepare = make_preprocessor(clip, **settings)
  rng = np.random.default_rng(0)
  values = {
    'photo': rng.integers(0, 255, (40, 30, 3)).astype(np.uint8),
    'words': 'a photo',
  }
  batch = prepare.prepare(**{n: [value] * 2 for n, value in values.items()})
  teacher = tasks.TeacherSpec(
    str(source),
    'embed',
    target,
    'out',
    width,
    {target: {'image': 'photo', 'text': 'words'}[target]},
  )
  return teachers.load('distill', teacher, prepare, batch), batch, values


@pytest.mark.parametrize('field', ['image', 'text'])
def test_embeddings_are_those_of_the_published_model(clip, field):
  frozen, batch, values = load(clip, field)
  got = jax.jit(frozen.apply)(frozen.params, batch)['out']
  if field == 'image':
    want = clip.module.apply(
      {'params': clip.params}, batch['photo'][:1], method='encode_image'
    )[0]
  else:
    want = clip.encode_text([values['words']])[0]
  # Rounding of products in another order.
  np.testing.assert_allclose(got[0], want, atol=2e-5)
  other = {'image': 'text', 'text': 'image'}[field]
  assert not any(
    path.startswith(f'{other}/') for path in tree_paths.flatten(frozen.params)
  )


def test_a_judge_is_read_for_its_task_alone(clip):
  prepare = make_preprocessor(clip)
  task = tasks.Draw(judge=str(CLIP), judge_feature='photo')
  found = teachers.load_judges({'draw': task, 'other': tasks.Draw()}, prepare)
  assert list(found) == [(str(CLIP), 'photo')]
  (judge,) = found.values()
  image = np.zeros((5, 9, 3), np.uint8)
  batch = prepare.prepare(photo=[image])
  got = judge.embed(judge.params, batch)
  want = clip.module.apply(
    {'params': clip.params}, batch['photo'], method='encode_image'
  )
  np.testing.assert_allclose(got, want, atol=2e-5)
  texts = ['a cat', 'two dogs']
  np.testing.assert_array_equal(
    judge.embed_texts(texts), clip.encode_text(texts)
  )
  wrong = make_preprocessor(clip, std=(0.5, 0.5, 0.5))
  message = r"^tasks\.draw\.judge=.*std.*judge_feature='teacher_image'"
  with pytest.raises(ConfigError, match=message):
    teachers.load_judges({'draw': task}, wrong)


def test_other_arrays_and_another_tokenizer_are_refused(clip, tmp_path):
  with pytest.raises(ConfigError, match=r"std=.* of 'image', but data\.feat"):
    load(clip, 'image', std=(0.5, 0.5, 0.5))
  with pytest.raises(ConfigError, match="'text' by another tokenizer than"):
    load(clip, 'text', tokenizer=tokenizers.make_byte_tokenizer())
  with pytest.raises(ConfigError, match=r"^tasks\.distill\.teacher='.*no fold"):
    load(clip, 'image', source=tmp_path / 'missing')


def test_a_runs_vectors_have_one_width_and_one_an_example(
  clip, tmp_path, monkeypatch
):
  prepare = make_preprocessor(clip)
  decoder = types.SimpleNamespace(width=23, cross_attention=False)
  run = types.SimpleNamespace(
    tasks={'align': tasks.Align(features=('photo', 'words'))},
    config=types.SimpleNamespace(model={'name': 'embedder'}),
    module=models.VisionLanguageEmbedder(vision=None, decoder=decoder),
    preprocessor=prepare,
    tokenizer=prepare.tokenizer,
    params={},
  )
  monkeypatch.setattr(teachers.rebuild, 'load', lambda folder: run)
  monkeypatch.setattr(teachers.hub, 'is_run', lambda folder: True)
  teacher = tasks.TeacherSpec(
    str(tmp_path), 'embed', 'photo', 'out', 7, {'photo': 'photo'}
  )
  with pytest.raises(ConfigError, match=r"23 outputs for 'photo', .*width=23"):
    teachers.load('distill', teacher, prepare, {})
  run.tasks['align'] = tasks.Align(features=('photo', 'words'), score='maxsim')
  with pytest.raises(ConfigError, match=r"no embeddings.* score='cosine'"):
    teachers.load('distill', teacher, prepare, {})


def test_a_run_does_not_resume_with_another_teacher(tmp_path):
  def make(value):
    params = {'head': {'bias': np.full(3, value, np.float32)}}
    return {'distill': FrozenModel(apply=None, params=params, boxed={})}

  for name, write in teachers.files(make(1.0)).items():
    write(tmp_path / name)
  teachers.check_same(make(2.0), tmp_path)  # No step is saved yet.
  (tmp_path / 'checkpoints' / '5').mkdir(parents=True)
  teachers.check_same(make(1.0), tmp_path)
  with pytest.raises(ConfigError, match=r'put the old .*teachers\.json'):
    teachers.check_same(make(2.0), tmp_path)
