"""One image tower for contrast, captions and answers."""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from mmjax import encoders, ops
from mmjax.errors import ConfigError, choose
from mmjax.models import dual_encoder, generation, questions
from mmjax.types import Array, Batch, Outputs, Positive, Size, TokenVectors


class ContrastiveCaptioner(generation.TextGenerator):
  """CoCa: a dual encoder and a captioner in one pass (Yu et al. 2022).

  The decoder's unimodal half embeds texts for the contrastive loss, and its
  multimodal half, which attends to the image, writes captions (figure 2). The
  same decoder encodes questions; the features of their last token pick the
  answer (section 3.3). Unlike the paper, the text embedding is that of the end
  of text instead of an extra class token, and the image encoder's own pooling
  replaces the two attentional poolers.

  A batch without images builds no image encoder, and is only answered.

  Attributes:
    image: an image encoder.
    decoder: a `TextDecoder` with `unimodal_depth` above 0.
    embed_dim: number of features of the embeddings E.
    num_answers: C, size of the answer vocabulary; 0 for no classifier.
    logit_scale_init: inverse temperature at the start.
    logit_scale_max: upper limit of the inverse temperature.
    logit_bias_init: the sigmoid loss's bias at the start; None for no bias.
    bos_id: the token that starts a text.
    eos_id: the token that ends it.
    pad_id: the token that fills up after the end.
    dtype: dtype of the projections.
  """

  image: nn.Module
  decoder: nn.Module
  embed_dim: Size
  num_answers: int = 0
  logit_scale_init: Positive = 1 / 0.07
  logit_scale_max: Positive = 100.0
  logit_bias_init: float | None = None
  bos_id: int = 1
  eos_id: int = 2
  pad_id: int = 0
  dtype: Any = jnp.float32

  text_kinds: ClassVar[tuple[str, ...]] = ('caption',)

  def setup(self):
    if self.decoder.unimodal_depth < 1:
      raise ConfigError(
        f'a contrastive captioner embeds texts with the unimodal half of its '
        f'decoder, but unimodal_depth is {self.decoder.unimodal_depth}; use at '
        f'least 1'
      )
    self.image_projection = dual_encoder.Projection(
      self.embed_dim, dtype=self.dtype
    )
    self.text_projection = dual_encoder.Projection(
      self.embed_dim, dtype=self.dtype
    )
    self.scale = dual_encoder.Scale(
      self.logit_scale_init, self.logit_scale_max, self.logit_bias_init
    )
    if self.num_answers:
      self.classifier = questions.classifier(self.num_answers, self.dtype)

  def __call__(self, batch: Batch, *, train: bool) -> Outputs:
    """Runs every task that the batch has the parts for.

    Args:
      batch: arrays by the keys of `mmjax.types`.
      train: whether dropout is on.

    Returns:
      With `image`, `image_embedding` [B, E] and `logit_scale` []; with `text`
      too, `text_embedding` [B, E] and `caption_logits` [B, T - 1, V], in
      training not materialised; with `question`, and a classifier,
      `answer_logits` [B, C], or [B, n, C] for n questions an image.
    """
    image, out = self._encode_image(batch, train=train), {}
    if 'image' in batch:
      out = dict(self.scale())
      out['image_embedding'] = self.image_projection(image.pooled)
    if 'image' in batch and 'text' in batch:
      text = self.decoder.encode_text(
        batch['text'], batch['text_mask'], train=train
      )
      out['text_embedding'] = self.text_projection(text.pooled)
      # The end of text predicts nothing.
      start = TokenVectors(text.values[:, :-1], text.mask[:, :-1], text.pooled)
      features = self.decoder.compute_hidden_states(
        start, image, train=train
      )  # [B, T-1, D]
      out['caption_logits'] = self.decoder.compute_logits(features, train=train)
    if 'question' in batch and self.num_answers:
      out['answer_logits'] = self._answer(image, batch, train=train)
    return out

  def embed(self, batch: Batch, name: str) -> Array:
    """Unit vectors [B, E] of a batch's `image` or `text`."""
    encode = {'image': self.encode_image, 'text': self.encode_text}
    return choose(name, encode, 'the feature')(
      *encoders.get_array_and_mask(batch, name)
    )

  def encode_image(
    self,
    images: Array | encoders.ImagePatches,
    mask: Array | None = None,
    *,
    train: bool = False,
  ) -> Array:
    """Embeds images [B, H, W, C], or their patches, as unit vectors [B, E]."""
    tokens = self.image(images, mask, train=train)
    return self.image_projection(tokens.pooled)

  def encode_text(
    self, tokens: Array, mask: Array | None = None, *, train: bool = False
  ) -> Array:
    """Embeds token ids [B, T] as unit vectors [B, E]."""
    encoded = self.decoder.encode_text(tokens, mask, train=train)
    return self.text_projection(encoded.pooled)

  def answer_logits(self, batch: Batch) -> Array:
    """Logits [B, C] over the answer vocabulary."""
    return self._answer(self._encode_image(batch, train=False), batch)

  def encode_inputs(
    self, batch: Batch, text_kind: str
  ) -> tuple[TokenVectors, Array, Array]:
    """The image, and the start of a text."""
    del text_kind  # There is one.
    context = self._encode_image(batch, train=False)
    start = jnp.full((context.mask.shape[0], 1), self.bos_id, jnp.int32)
    return context, start, jnp.ones(start.shape, bool)

  def _encode_image(self, batch: Batch, *, train: bool) -> TokenVectors:
    if 'image' not in batch:
      if 'question' not in batch:
        raise ConfigError(
          f'a contrastive captioner needs an image or a question in the batch, '
          f'which has only {sorted(batch)}; texts alone go to encode_text'
        )
      # One absent token: cross-attention needs a context.
      size, width = batch['question'].shape[0], self.decoder.width
      return TokenVectors(
        jnp.zeros((size, 1, width), self.dtype),
        jnp.zeros((size, 1), bool),
        jnp.zeros((size, width), self.dtype),
      )
    return self.image(*encoders.get_array_and_mask(batch), train=train)

  def _answer(
    self, image: TokenVectors, batch: Batch, *, train: bool = False
  ) -> Array:
    question = self.decoder.encode_text(
      questions.flatten(batch['question']),
      questions.flatten(batch['question_mask']),
      train=train,
    )
    image = questions.repeat_for(image, batch['question'])  # [B * n, N, D]
    features = self.decoder.compute_hidden_states(question, image, train=train)
    last = ops.last_token(features, question.mask)  # [B * n, D]
    logits = self.classifier(last).astype(jnp.float32)
    return questions.unflatten(logits, batch['question'])
