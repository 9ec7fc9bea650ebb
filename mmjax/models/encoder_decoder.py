"""Encoders in front, a text decoder or a classifier behind."""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from mmjax import encoders
from mmjax.errors import ConfigError
from mmjax.models import fusing, generation, questions
from mmjax.types import Array, Batch, Outputs, TokenVectors


class EncoderDecoder(generation.TextGenerator):
  """Writes captions about images, and answers questions about them.

  Captions are decoded from the image's tokens alone (Show and Tell, Vinyals et
  al. 2015, with attention); answers from the fusion of image and question,
  either written by the same decoder or picked by a linear classifier over
  `num_answers` answers. A model has the parts that its tasks need. Without a
  fusion, the question encoder attends to the image itself (BLIP, Li et al.
  2022, figure 5).

  An example without an image is answered from its question alone; a batch
  without the key `image` builds no image encoder at all, which is what a blind
  baseline does.

  Attributes:
    image: an image encoder.
    question: a text encoder for questions; None for captions alone.
    fusion: mixes the tokens `image` and `question`; None for a question
      encoder with cross-attention.
    decoder: a `TextDecoder` with cross-attention; None to classify only.
    num_answers: C, size of the answer vocabulary; 0 for no classifier.
    bos_id: the token that starts a text.
    eos_id: the token that ends it.
    pad_id: the token that fills up after the end.
    dtype: dtype of the classifier.
  """

  image: nn.Module
  question: nn.Module | None = None
  fusion: nn.Module | None = None
  decoder: nn.Module | None = None
  num_answers: int = 0
  bos_id: int = 1
  eos_id: int = 2
  pad_id: int = 0
  dtype: Any = jnp.float32

  text_kinds: ClassVar[tuple[str, ...]] = ('caption', 'answer')

  def setup(self):
    crosses = getattr(self.question, 'cross_attention', False)
    if (self.question is None or crosses) != (self.fusion is None):
      raise ConfigError(
        'a question encoder and a fusion come together; set both in '
        'model.question and model.fusion, or neither, unless the question '
        'encoder has cross_attention'
      )
    if fusing.decides(self.fusion):
      raise ConfigError(
        f'model.fusion, {type(self.fusion).__name__}, decides on outputs; use '
        "a fusion of features or of tokens, or model.name='multimodal'"
      )
    if self.num_answers:
      self.classifier = questions.classifier(self.num_answers, self.dtype)

  def __call__(self, batch: Batch, *, train: bool) -> Outputs:
    """Runs every task that the batch and the model have the parts for.

    Args:
      batch: arrays by the keys of `mmjax.types`.
      train: whether dropout is on.

    Returns:
      Some of `caption_logits` [B, T - 1, V], `answer_token_logits`
      [B, A - 1, V] and `answer_logits` [B, C], all float32; the latter two
      [B, n, ...] for n questions an image. In training, the former two are not
      materialised.
    """
    out = {}
    image = self.encode_image(batch, train=train)
    if 'text' in batch and image is not None and self.decoder is not None:
      out['caption_logits'] = self.decoder(
        batch['text'][:, :-1], batch['text_mask'][:, :-1], image, train=train
      )
    if 'question' in batch and self.question is not None:
      fused = self._fuse(image, batch, train=train)
      if self.num_answers:
        logits = self._classify(fused)
        out['answer_logits'] = questions.unflatten(logits, batch['question'])
      if 'answer' in batch and self.decoder is not None:
        logits = self.decoder(
          questions.flatten(batch['answer'])[:, :-1],
          questions.flatten(batch['answer_mask'])[:, :-1],
          fused,
          train=train,
        )
        out['answer_token_logits'] = questions.unflatten(
          logits, batch['question']
        )
    return out

  def encode_image(
    self, batch: Batch, *, train: bool = False
  ) -> TokenVectors | None:
    """The image's tokens [B, N, D]; None if the batch has no images."""
    if 'image' not in batch:
      return None
    return self.image(*encoders.get_array_and_mask(batch), train=train)

  def fuse_question(self, batch: Batch, *, train: bool = False) -> TokenVectors:
    """The question's tokens, fused with the image's."""
    image = self.encode_image(batch, train=train)
    return self._fuse(image, batch, train=train)

  def answer_logits(self, batch: Batch) -> Array:
    """Logits [B, C] over the answer vocabulary."""
    return self._classify(self.fuse_question(batch))

  def encode_inputs(
    self, batch: Batch, text_kind: str
  ) -> tuple[TokenVectors, Array, Array]:
    """The image, or its fusion with the question, and the start of a text.

    The start is the batch's `prompt`, or where it has none, `bos_id`.
    """
    if text_kind == 'caption':
      context = self.encode_image(batch)
      if context is None:
        raise ConfigError('a caption needs an image; the batch has none')
    elif self.question is None:
      raise ConfigError(
        'an answer needs a question encoder and a fusion; set model.question '
        'and model.fusion'
      )
    else:
      context = self.fuse_question(batch)
    start = generation.read_decoder_prompt(
      batch, context.mask.shape[0], self.bos_id
    )
    return context, *start

  def _fuse(
    self, image: TokenVectors | None, batch: Batch, *, train: bool
  ) -> TokenVectors:
    """One row per question, [B] or [B * n]."""
    ids = questions.flatten(batch['question'])
    mask = questions.flatten(batch['question_mask'])
    if self.fusion is None:
      if image is not None:
        image = questions.repeat_for(image, batch['question'])
      return self.question(ids, mask, image, train=train)
    question = self.question(ids, mask, train=train)
    if image is None:
      # One absent token stands for the image, so that any fusion works.
      shape = (*question.pooled.shape[:1], 1, question.pooled.shape[-1])
      image = TokenVectors(
        jnp.zeros(shape, question.values.dtype),
        jnp.zeros(shape[:2], bool),
        jnp.zeros_like(question.pooled),
      )
    else:
      image = questions.repeat_for(image, batch['question'])
    return self.fusion({'image': image, 'question': question}, train=train)

  def _classify(self, fused: TokenVectors) -> Array:
    return self.classifier(fused.pooled).astype(jnp.float32)
