"""GRPO's loss equals that of TRL, with its gradient."""

import collections
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from trl.trainer.grpo_trainer import GRPOTrainer

from mmjax import objectives

BATCH, PROMPT, ANSWER, VOCABULARY = 6, 4, 5, 11


def _run_trl(kind, beta, logits, reference, ids, mask, sampled, advantages):
  """Loss, and its gradient by the logits of the answer's tokens."""
  logits = torch.from_numpy(logits).requires_grad_()
  tensor = torch.from_numpy
  gather = lambda x: torch.log_softmax(x, -1).gather(
    -1, tensor(ids)[:, PROMPT:, None].long()
  )[..., 0]
  found = gather(logits)
  trainer = types.SimpleNamespace(
    model=types.SimpleNamespace(training=True),
    accelerator=types.SimpleNamespace(
      gather=lambda x: x, reduce=lambda x, reduction: x
    ),
    args=types.SimpleNamespace(delta=None, use_bias_correction_kl=False),
    _get_per_token_logps_and_entropies=lambda *_, **__: (
      found,
      torch.zeros_like(found),
      None,
    ),
    aux_loss_enabled=False,
    top_entropy_quantile=1.0,
    off_policy_mask_threshold=None,
    importance_sampling_level='token',
    beta=beta,
    loss_type=kind,
    epsilon_low=0.2,
    epsilon_high=0.3,
    use_vllm=False,
    current_gradient_accumulation_steps=1,
    max_completion_length=ANSWER,
    _entropy_bonus_enabled=False,
    _metrics={'train': collections.defaultdict(list)},
  )
  inputs = {
    'prompt_ids': tensor(ids)[:, :PROMPT],
    'prompt_mask': torch.ones(BATCH, PROMPT),
    'completion_ids': tensor(ids)[:, PROMPT:],
    'completion_mask': tensor(mask).long(),
    'advantages': tensor(advantages),
    'old_per_token_logps': tensor(sampled),
    'ref_per_token_logps': gather(tensor(reference)),
  }
  loss = GRPOTrainer._compute_loss(trainer, None, inputs)
  loss.backward()
  return loss.item(), logits.grad.numpy()


@pytest.mark.parametrize('beta', [0.0, 0.2])
@pytest.mark.parametrize('kind', ['grpo', 'dr_grpo'])
def test_losses_and_gradients_are_those_of_trl(kind, beta):
  rng = np.random.default_rng(0)
  shape = BATCH, ANSWER, VOCABULARY
  logits, reference = rng.normal(size=(2, *shape)).astype(np.float32)
  ids = rng.integers(0, VOCABULARY, (BATCH, PROMPT + ANSWER)).astype(np.int32)
  mask = np.arange(ANSWER) < rng.integers(1, ANSWER + 1, (BATCH, 1))
  labels = ids[:, PROMPT:, None]
  log_probs = np.asarray(jax.nn.log_softmax(logits))
  sampled = np.take_along_axis(log_probs, labels, 2)[..., 0]
  sampled += 0.3 * rng.normal(size=sampled.shape).astype(np.float32)
  rewards = rng.normal(size=BATCH)
  advantages = objectives.group_advantages(rewards, 3)
  want, gradient = _run_trl(
    kind, beta, logits, reference, ids, mask, sampled, advantages
  )
  before = np.zeros((BATCH, PROMPT), bool)
  padded = np.zeros((BATCH, PROMPT - 1, VOCABULARY), np.float32)
  whole = lambda x: {'prompt_logits': jnp.concatenate([padded, x], axis=1)}
  batch = {
    'prompt': ids,
    'prompt_mask': np.concatenate([~before, mask], axis=1),
    'prompt_loss_mask': np.concatenate([before, mask], axis=1),
    'prompt_log_probs': np.concatenate([0.0 * before, sampled], axis=1),
    'prompt_advantage': advantages,
    'prompt_reward': rewards,
  }
  batch = jax.tree.map(jnp.asarray, batch)
  settings = {'clip': 0.2, 'clip_high': 0.3}
  settings['length'] = ANSWER if kind == 'dr_grpo' else 0
  more = {'apply': dict, 'rng': jax.random.key(0)}
  if beta:
    objective = objectives.ReferencedGroupPolicy(
      'prompt', **settings, beta=beta
    )
    more['apply_teacher'] = lambda batch: whole(jnp.asarray(reference))
  else:
    objective = objectives.GroupPolicy('prompt', **settings)
  compute = jax.jit(
    jax.value_and_grad(lambda x: objective(whole(x), batch, **more)[0])
  )
  got, ours = compute(jnp.asarray(logits))
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(ours, gradient, rtol=1e-5, atol=1e-6)
  assert np.abs(gradient).max() > 1e-2
