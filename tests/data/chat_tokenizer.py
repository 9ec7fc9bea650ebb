"""A tokenizer of bytes, pairs and the special tokens of chat templates."""

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from tests.data import chat_forms

# A question's end and what stands before a video's step are one token.
_TEXTS = [
  '?<?<?<?<',
  'what is it?',
  'a red circle',
  'user assistant system model',
  'USER:',
]


def make() -> tokenizers.Tokenizer:
  """Makes the tokenizer; it splits texts as those of Qwen and Llama 3 do."""
  tokenizer = tokenizers.Tokenizer(models.BPE())
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = decoders.ByteLevel()
  tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
  trainer = trainers.BpeTrainer(
    vocab_size=300,
    special_tokens=list(chat_forms.SPECIALS),
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  tokenizer.train_from_iterator(_TEXTS, trainer)
  return tokenizer
