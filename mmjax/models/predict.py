"""Makers of predict functions: (params, batch) to a model's predictions.

Predict functions are pure, so they can be jitted, and all that evaluators know
of a model.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmjax import decoders, objectives, ops
from mmjax.objectives import presence
from mmjax.types import Array, Batch, Outputs, Params

Predict = Callable[[Params, Batch], Array]


def apply_factored(model: nn.Module, params: Params, batch: Batch) -> Outputs:
  """Outputs without dropout, with logits that are not materialised.

  So the log-probabilities of tokens can be computed in chunks
  (`mmjax.objectives.token_log_probs`), as in training.

  Args:
    model: any model; other outputs than a `TextDecoder`'s are as always.
    params: its parameters.
    batch: arrays by the keys of `mmjax.types`.
  """

  def keep_factors(call, args, kwargs, context):
    is_decoder = isinstance(context.module, decoders.TextDecoder)
    if is_decoder and context.method_name == 'compute_logits':
      kwargs = {**kwargs, 'train': True}
    return call(*args, **kwargs)

  with nn.intercept_methods(keep_factors):
    return model.apply({'params': params}, batch, train=False)


def make_embed(model: nn.Module, *, name: str) -> Predict:
  """Unit vectors of one feature: [B, E], or one for each token, [B, N, E].

  Args:
    model: one with `embed(batch, name)`.
    name: name of the feature.
  """

  def predict(params: Params, batch: Batch) -> Array:
    return model.apply({'params': params}, batch, name, method='embed')

  return predict


def make_output(model: nn.Module, *, target: str, encoder: str = '') -> Predict:
  """Outputs [B, n] for one target: logits of classes, or numbers.

  Args:
    model: one with `apply_head(batch, target)`.
    target: name of the feature that is predicted.
    encoder: name of the encoder that it is predicted from alone, of a model
      with `unimodal_outputs`; '' for all.
  """
  alone = (encoder,) if encoder else ()

  def predict(params: Params, batch: Batch) -> Array:
    return model.apply(
      {'params': params}, batch, target, *alone, method='apply_head'
    )

  return predict


def make_generate(
  model: nn.Module,
  *,
  text_kind: str,
  max_new_tokens: int,
  **settings: Any,
) -> Predict:
  """Token ids [B, max_new_tokens] of texts of the kind `text_kind`.

  Args:
    model: one with `generate`.
    text_kind: one of the model's `text_kinds`, such as 'caption' or 'answer'.
    max_new_tokens: most tokens to generate.
    **settings: further arguments of `generate`, such as `beam_size`.

  Returns:
    A function of batches; `seed` [] int32 among them is the seed of sampling.
  """

  def predict(params: Params, batch: Batch) -> Array:
    batch = dict(batch)
    seed = batch.pop('seed', 0)
    generated = model.apply(
      {'params': params},
      batch,
      text_kind=text_kind,
      max_new_tokens=max_new_tokens,
      rng=jax.random.key(seed),
      method='generate',
      **settings,
    )
    return generated.tokens

  return predict


def make_option_scores(model: nn.Module, *, text_kind: str) -> Predict:
  """Log-probabilities [B, n] of n texts after each prompt.

  Args:
    model: one with `score_options`.
    text_kind: one of the model's `text_kinds`.

  Returns:
    A function of batches that also have `options` [B, n, T] and `options_mask`.
  """

  def predict(params: Params, batch: Batch) -> Array:
    batch = dict(batch)
    options = {key: batch.pop(key) for key in ('options', 'options_mask')}
    return model.apply(
      {'params': params},
      batch,
      text_kind=text_kind,
      method='score_options',
      **options,
    )

  return predict


def make_answer_logits(model: nn.Module) -> Predict:
  """Logits [B, C] over the answer vocabulary."""

  def predict(params: Params, batch: Batch) -> Array:
    return model.apply({'params': params}, batch, method='answer_logits')

  return predict


def make_pick_answer(model: nn.Module) -> Predict:
  """Index [B] of the likeliest answer."""
  logits = make_answer_logits(model)
  return lambda params, batch: jnp.argmax(logits(params, batch), axis=-1)


def make_assistant_losses(model: nn.Module, *, target: str) -> Predict:
  """How well what the assistant says is predicted, by conversation.

  Args:
    model: one with the output `TARGET_logits` [B, T - 1, V].
    target: name of the conversations' feature.

  Returns:
    A function to arrays [B, 3]: the sum of the cross-entropies of the learnt
    tokens, the number of those with the highest logit, and their number.
  """

  def predict(params: Params, batch: Batch) -> Array:
    outputs = model.apply({'params': params}, batch, train=False)
    logits = outputs[f'{target}_logits']  # [B, T - 1, V]
    labels = batch[target][:, 1:]
    mask = (batch[f'{target}_mask'] & batch[f'{target}_loss_mask'])[:, 1:]
    losses = objectives.cross_entropy(ops.zero_masked(logits, mask), labels)
    right = jnp.argmax(logits, axis=-1) == labels
    columns = (losses * mask, right & mask, mask)
    return jnp.stack([x.sum(axis=1, dtype=jnp.float32) for x in columns], 1)

  return predict


def make_answer_scores(
  model: nn.Module, *, objective: objectives.Preference
) -> Predict:
  """Log-probabilities of both answers of pairs, and their numbers of tokens.

  Args:
    model: one with the output `TARGET_logits` [B, T - 1, V].
    objective: names the target.

  Returns:
    A function to arrays [B, 4]: the sums of the log-probabilities of the
    preferred answer's tokens and of the other's, and the numbers of both.
  """

  def predict(params: Params, batch: Batch) -> Array:
    columns = []
    for part in (batch, objective.swap(batch)):
      columns.append(objective.score(apply_factored(model, params, part), part))
    columns += objective.count_tokens(batch)
    return jnp.stack([x.astype(jnp.float32) for x in columns], axis=1)

  return predict


def make_fill(model: nn.Module, *, feature: str) -> Predict:
  """Logits [B, T, V] of a text's tokens, of which `FEATURE_gaps` are hidden.

  Args:
    model: one with `fill`.
    feature: name of the text; batches also have `FEATURE_gaps`, bool [B, T].
  """

  def predict(params: Params, batch: Batch) -> Array:
    ids = batch[feature]
    positions = jnp.broadcast_to(jnp.arange(ids.shape[1])[None], ids.shape)
    arguments = batch, feature, positions, batch[f'{feature}_gaps']
    return model.apply({'params': params}, *arguments, method='fill')

  return predict


def make_masked_tokens(
  model: nn.Module, *, objective: objectives.MaskedTokens
) -> Predict:
  """How well chosen tokens are predicted, all of them hidden.

  An example's choice depends only on its `index`.

  Args:
    model: one with `fill`.
    objective: chooses tokens.

  Returns:
    A function to arrays [B, K, 4]: 1 where a token is chosen, its
    cross-entropy, 1 where it is the likeliest one, and its id.
  """

  def predict(params: Params, batch: Batch) -> Array:
    ids = batch[objective.feature]
    rng = jax.random.key(0)
    positions, chosen = objective.choose(batch, rng, batch['index'])
    hidden = objective.hide(ids, positions, chosen)
    arguments = batch, objective.feature, positions, hidden
    logits = model.apply({'params': params}, *arguments, method='fill')
    losses, right = objective.measure(logits, ids, positions, chosen)
    labels = jnp.take_along_axis(ids, positions, axis=1)
    columns = (chosen, losses, right, labels)
    return jnp.stack([x.astype(jnp.float32) for x in columns], axis=-1)

  return predict


def make_masked_patches(
  model: nn.Module, *, objective: objectives.MaskedPatches
) -> Predict:
  """Errors [B, 2] of hidden patches: the model's, and that of their means.

  What is hidden of an example depends only on its `index`.

  Args:
    model: one with `reconstruct`.
    objective: measures the errors.
  """

  def predict(params: Params, batch: Batch) -> Array:
    found = _reconstruct(model, params, batch, objective, batch['index'])
    mask = presence.presence_mask(batch, objective.feature)
    return jnp.stack(objective.measure(found, mask), axis=1)

  return predict


def make_reconstructions(
  model: nn.Module, *, objective: objectives.MaskedPatches, seed: int = 0
) -> Predict:
  """Inputs, with hidden patches, and with these predicted: [B, 3, H, W, C].

  Hidden patches are 0. Predicted ones get the mean and deviation of the true
  ones, which the model doesn't predict.

  Args:
    model: one with `reconstruct`.
    objective: the feature, and the fraction to hide.
    seed: seed of what is hidden.
  """

  def predict(params: Params, batch: Batch) -> Array:
    index = batch.get('index', jnp.arange(len(batch[objective.feature])))
    found = _reconstruct(model, params, batch, objective, index, seed)
    _, mean, deviation = objectives.normalise_patches(
      found.target, objective.epsilon
    )
    hidden = found.hidden[:, :, None]
    versions = (
      found.target,
      jnp.where(hidden, 0.0, found.target),
      jnp.where(hidden, found.predicted * deviation + mean, found.target),
    )
    is_image = batch[objective.feature].ndim == 4
    channels = batch[objective.feature].shape[-1] if is_image else 1
    return jnp.stack(
      [ops.join_patches(x, found.grid, channels) for x in versions], axis=1
    )

  return predict


def _reconstruct(
  model: nn.Module,
  params: Params,
  batch: Batch,
  objective: objectives.MaskedPatches,
  index: Array,
  seed: int = 0,
) -> Any:
  arguments = objective.feature, jax.random.key(seed), index, objective.fraction
  return model.apply(
    {'params': params}, batch, *arguments, method='reconstruct'
  )


def make_draw(
  model: nn.Module,
  *,
  objective: objectives.Denoising,
  shape: tuple[int, ...],
  steps: int,
  sampler: str,
  spacing: str,
  guidance: float,
) -> Predict:
  """Arrays [B, ...] float32 that a model draws out of noise.

  Args:
    model: one with the objective's method.
    objective: that it was trained with: its noise and its method.
    shape: shape of what is drawn, such as (H, W, C).
    steps: number of steps of the sampler.
    sampler: sampler, as in `mmjax.ops.sample`.
    spacing: spacing, as in `mmjax.ops.make_step_table`.
    guidance: factor g of classifier-free guidance (Ho and Salimans 2022,
      equation 6, whose w is g - 1): u + g (c - u) of the predictions with and
      without the condition. With 1, c alone is computed, and with 0, u alone.

  Returns:
    A function of batches with the condition and `seed` [B] int32, of which an
    example's noise is a function, unless they have `noise` [B, ...].
  """

  def predict(params: Params, batch: Batch) -> Array:
    number = len(batch['seed'])
    batch = dict(batch)
    keys = jax.vmap(jax.random.key)(batch.pop('seed'))
    start = batch.pop('noise', None)
    if start is None:
      start = jax.vmap(lambda key: jax.random.normal(key, shape))(keys)

    def denoise(noisy: Array, time: Array) -> Array:
      if guidance in (0.0, 1.0):
        return run(noisy, time, batch, jnp.full(number, guidance != 0))
      both = jax.tree.map(lambda x: jnp.concatenate([x, x]), (noisy, batch))
      half = jnp.arange(2 * number) < number
      with_it, without = jnp.split(run(both[0], time, both[1], half), 2)
      return without + guidance * (with_it - without)

    def run(noisy, time, batch, conditioned):
      arguments = noisy, jnp.full(len(noisy), time), batch, conditioned
      bound, method = {'params': params}, objective.method
      return model.apply(bound, *arguments, method=method)

    return ops.sample(
      denoise,
      start,
      objective.schedule,
      steps=steps,
      sampler=sampler,
      spacing=spacing,
      rng=keys,
    )

  return predict
