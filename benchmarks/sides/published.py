"""Training steps of published architectures, by mmjax and by transformers.

On a CPU both start from the same random weights, so that the losses of their
first two steps are equal. Models of billions of parameters start from weights
of their own.
"""

import dataclasses
import pathlib
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.sides import training
from benchmarks.sides.work import Work

# The first id after those of special tokens.
_FIRST_WORD = 5


@dataclasses.dataclass(frozen=True)
class Model:
  """A model, its loss and its batch.

  Attributes:
    label: name for people.
    architecture: class of transformers.
    make_config: whether sizes are tiny -> its config.
    draw: (config, batch size, length) -> arrays by mmjax's names.
    names: mmjax's name -> that of transformers' argument.
    arguments: further arguments of transformers' model.
    make_objective: () -> mmjax's objective.
    target_feature: name of the text that mmjax's language model is trained on.
    batch: number of examples.
    length: tokens of a text.
    dtype: precision of the computation.
    shares: whether both sides start from the same weights.
  """

  label: str
  architecture: str
  make_config: Callable[[bool], Any]
  draw: Callable[[Any, int, int], dict[str, np.ndarray]]
  names: Mapping[str, str]
  make_objective: Callable[[], Any]
  batch: int
  length: int
  arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  target_feature: str = ''
  dtype: str = 'float32'
  shares: bool = True


def _make_blip(tiny: bool) -> Any:
  """BLIP with two towers of width 384 and six layers."""
  import transformers

  width, depth, heads = (32, 2, 2) if tiny else (384, 6, 6)
  tower = {
    'hidden_size': width,
    'intermediate_size': 4 * width,
    'num_hidden_layers': depth,
    'num_attention_heads': heads,
  }
  text = {
    'vocab_size': 128 if tiny else 30_524,
    'max_position_embeddings': 64,
    'bos_token_id': 1,
    'sep_token_id': 2,
    'pad_token_id': 0,
    'encoder_hidden_size': width,
  }
  vision = {'image_size': 32 if tiny else 224, 'patch_size': 16}
  return transformers.BlipConfig(
    text_config={**tower, **text}, vision_config={**tower, **vision}
  )


def _make_qwen2(tiny: bool) -> Any:
  """Qwen2 of 2 billion parameters."""
  import transformers

  width, mlp_dim, depth, heads = (
    (32, 64, 2, 4) if tiny else (2048, 8960, 26, 16)
  )
  return transformers.Qwen2Config(
    vocab_size=128 if tiny else 151_936,
    hidden_size=width,
    intermediate_size=mlp_dim,
    num_hidden_layers=depth,
    num_attention_heads=heads,
    num_key_value_heads=2,
    tie_word_embeddings=True,
    use_cache=False,
  )


def _make_siglip(tiny: bool) -> Any:
  """SigLIP So400m/14: two towers of width 1,152."""
  import transformers

  width, mlp_dim, depth, heads = (
    (32, 64, 2, 2) if tiny else (1152, 4304, 27, 16)
  )
  tower = {
    'hidden_size': width,
    'intermediate_size': mlp_dim,
    'num_hidden_layers': depth,
    'num_attention_heads': heads,
  }
  text = {
    'vocab_size': 128 if tiny else 32_000,
    'max_position_embeddings': 16,
  }
  vision = {'image_size': 28 if tiny else 224, 'patch_size': 14}
  return transformers.SiglipConfig(
    text_config={**tower, **text}, vision_config={**tower, **vision}
  )


def _draw_images(config: Any, batch: int) -> dict[str, np.ndarray]:
  side = config.vision_config.image_size
  drawn = np.random.default_rng(0).normal(size=(batch, side, side, 3))
  return {'image': drawn.astype(np.float32)}


def _draw_text(
  name: str, vocab_size: int, batch: int, length: int
) -> dict[str, np.ndarray]:
  """A text without padding, [batch, length], and its mask."""
  rng = np.random.default_rng(len(name))
  ids = rng.integers(_FIRST_WORD, vocab_size, (batch, length))
  return {
    name: ids.astype(np.int32),
    f'{name}_mask': np.ones(ids.shape, bool),
  }


def _draw_captions(config: Any, batch: int, length: int) -> dict[str, Any]:
  vocab_size = config.text_config.vocab_size
  return {
    **_draw_images(config, batch),
    **_draw_text('text', vocab_size, batch, length),
  }


def _draw_questions(config: Any, batch: int, length: int) -> dict[str, Any]:
  vocab_size = config.text_config.vocab_size
  return {
    **_draw_images(config, batch),
    **_draw_text('question', vocab_size, batch, length),
    **_draw_text('answer', vocab_size, batch, length // 2),
  }


def _draw_texts(config: Any, batch: int, length: int) -> dict[str, Any]:
  return _draw_text('text', config.vocab_size, batch, length)


def _objective(name: str, **settings: Any) -> Callable[[], Any]:
  """Makes an objective, once mmjax may be imported."""

  def make() -> Any:
    from mmjax import objectives

    return getattr(objectives, name)(**settings)

  return make


MODELS = {
  'captioning': Model(
    'captioning step, BLIP of 37M, batch 8',
    'BlipForConditionalGeneration',
    _make_blip,
    _draw_captions,
    {'image': 'pixel_values', 'text': 'input_ids'},
    _objective('CaptionGeneration'),
    batch=8,
    length=32,
  ),
  'vqa': Model(
    'question answering step, BLIP of 63M, batch 8',
    'BlipForQuestionAnswering',
    _make_blip,
    _draw_questions,
    {
      'image': 'pixel_values',
      'question': 'input_ids',
      'question_mask': 'attention_mask',
      'answer': 'labels',
      'answer_mask': 'decoder_attention_mask',
    },
    _objective('AnswerGeneration'),
    batch=8,
    length=16,
  ),
  'decoder_2b': Model(
    'language model step, Qwen2 of 2B, batch 8, 1,024 tokens, bfloat16',
    'Qwen2ForCausalLM',
    _make_qwen2,
    _draw_texts,
    {'text': 'input_ids'},
    _objective('TextGeneration', target='text'),
    batch=8,
    length=1024,
    target_feature='text',
    dtype='bfloat16',
    shares=False,
  ),
  'so400m': Model(
    'SigLIP So400m/14 step, batch 128, bfloat16',
    'SiglipModel',
    _make_siglip,
    _draw_captions,
    {'image': 'pixel_values', 'text': 'input_ids'},
    _objective('Contrastive', kind='sigmoid'),
    batch=128,
    length=16,
    arguments={'return_loss': True},
    dtype='bfloat16',
    shares=False,
  ),
}


def shrink(model: Model) -> Model:
  """The same of a tiny batch, in float32 and from shared weights."""
  return dataclasses.replace(
    model,
    batch=2,
    length=min(model.length, 16),
    dtype='float32',
    shares=True,
  )


def build_mmjax(model: Model, tiny: bool) -> training.Built:
  """The step of the module that mmjax makes of transformers' config."""
  import ml_collections

  from mmjax.config import settings
  from mmjax.pretrained import families
  from mmjax.training import experiment

  model = shrink(model) if tiny else model
  config = _make_config(model, tiny)
  described = config.to_dict()
  module = families.find(described).build_module(described, model.dtype)
  if model.target_feature:
    module = module.clone(target_feature=model.target_feature)
  batch = model.draw(config, model.batch, model.length)
  built = experiment.Experiment(
    model=module,
    objectives={'loss': (1.0, model.make_objective())},
    train_data=training.Repeated(batch),
    init_batch={name: array[:1] for name, array in batch.items()},
  )
  train = {'steps': 1000, 'batch_size': model.batch, 'dtype': model.dtype}
  config = settings.complete(
    ml_collections.ConfigDict(
      {
        'optimizer': {
          'name': 'adamw',
          'lr': 1e-4,
          'weight_decay': 0.1,
          'schedule': 'constant',
          'warmup_steps': 0,
        },
        'train': train,
      }
    )
  )
  return training.Built(config, built, batch)


def make_mmjax(model: Model, tiny: bool) -> Work:
  """The update of the loop, of the module that a published folder describes."""
  from mmjax import pretrained
  from mmjax.training import allocator

  allocator.keep_memory()  # As the command does.
  built = build_mmjax(model, tiny)
  if not (tiny or model.shares):
    return training.make_step(built)
  with tempfile.TemporaryDirectory() as folder:
    make_torch(model, tiny).save_pretrained(folder)
    params = pretrained.load(pathlib.Path(folder)).params
  return training.make_step(dataclasses.replace(built, params=params), number=2)


def make_transformers(model: Model, tiny: bool, compiled: bool = False) -> Work:
  """The step of transformers' model with its own loss.

  Args:
    model: the model and its batch.
    tiny: whether to take tiny sizes.
    compiled: whether `torch.compile` compiles the model, unless it is tiny.
  """
  import torch

  network = make_torch(model, tiny).train()
  model = shrink(model) if tiny else model
  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  network.to(device)
  batch = model.draw(network.config, model.batch, model.length)
  inputs = {
    theirs: _to_torch(batch[name]).to(device)
    for name, theirs in model.names.items()
  }
  if not model.arguments:
    inputs.setdefault('labels', inputs['input_ids'])
  forward = torch.compile(network) if compiled and not tiny else network
  return training.make_torch_step(
    lambda: forward(**inputs, **model.arguments).loss,
    network,
    model.batch,
    model.dtype,
    number=2 if model.shares else 0,
  )


def make_torch(model: Model, tiny: bool) -> Any:
  """transformers' model, of the same random weights at each call."""
  import torch
  import transformers

  torch.manual_seed(0)
  return getattr(transformers, model.architecture)(_make_config(model, tiny))


def _make_config(model: Model, tiny: bool) -> Any:
  config = model.make_config(tiny)
  config.architectures = [model.architecture]
  return config


def _to_torch(array: np.ndarray) -> Any:
  """An image [B, 3, H, W], or ids or a mask [B, T] as integers."""
  import torch

  tensor = torch.tensor(array)
  return tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor.long()
