"""Ids under the settings of tokenizer_config.json are transformers'."""

import inspect
import json
import pathlib
import re
import shutil

import pytest
import transformers

from mmjax import pretrained
from mmjax.pretrained import tokenizer_settings
from tests.pretrained import older_tokenizers, test_tokenizer_files

GOLDEN = pathlib.Path(__file__).parents[1] / 'pretrained/golden/llama'
NAMES = {'bos_token': '<s>', 'eos_token': '</s>'}
TEXTS = ['cat', 'a </s> cat <s>', '<s> a', 'large red </s>']


@pytest.mark.parametrize('split', [{}, {'split_special_tokens': True}])
@pytest.mark.parametrize(
  'settings',
  [
    {},
    {'add_bos_token': True, 'add_eos_token': True},
    {'add_bos_token': False},
    {'add_eos_token': True},
  ],
)
def test_ids_agree(tmp_path, settings, split):
  """Also of special tokens that are typed in a text."""
  folder = shutil.copytree(GOLDEN, tmp_path, dirs_exist_ok=True)
  settings = {**NAMES, **settings, **split}
  settings['tokenizer_class'] = 'PreTrainedTokenizerFast'
  (folder / 'tokenizer_config.json').write_text(json.dumps(settings))
  theirs = transformers.AutoTokenizer.from_pretrained(folder)
  ours = pretrained.load(folder).tokenizer
  for text in TEXTS:
    assert ours.encode(text).ids == theirs(text)['input_ids']


CLASSES = (
  transformers.BertTokenizer,
  transformers.CLIPTokenizer,
  transformers.GemmaTokenizer,
  transformers.GPT2Tokenizer,
  transformers.LlamaTokenizer,
  transformers.Qwen2Tokenizer,
  transformers.Siglip2Tokenizer,
  transformers.SiglipTokenizer,
  transformers.T5Tokenizer,
  transformers.WhisperTokenizer,
)
# What callers give, not the file.
ARGUMENTS = {
  *('_from_auto', '_from_pipeline', '_json_padding', '_json_truncation'),
  *('_spm_precompiled_charsmap', 'kwargs', 'proxies', 'self', 'tokenizer'),
}


def test_every_key_is_known():
  """Arguments of the classes, and keys that their base reads from the file."""
  keys = set()
  for one in CLASSES:
    keys |= {*inspect.signature(one.__init__).parameters}
  for base in (
    transformers.PreTrainedTokenizerBase,
    transformers.PreTrainedTokenizerFast,
  ):
    for method in (base.__init__, base.from_pretrained, base._from_pretrained):
      text = inspect.getsource(method)
      keys |= set(re.findall(r'kwargs(?:\.\w+)?[(\[]"(\w+)"', text))
  section = tokenizer_settings.SECTION
  known = {*section.read, *section.only, *section.irrelevant}
  known |= set(tokenizer_settings.ROLES)
  assert keys - known - ARGUMENTS == set()


@pytest.mark.parametrize('which', ['t5', 'bert', 'gpt2'])
def test_spaces_are_cleaned_up_alike(which, tmp_path):
  older_tokenizers.write(tmp_path, which)
  file = tmp_path / tokenizer_settings.FILE
  settings = json.loads(file.read_text()) if file.exists() else {}
  settings['clean_up_tokenization_spaces'] = True
  file.write_text(json.dumps(settings))
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
  ours = test_tokenizer_files.build_tokenizer(tmp_path)
  for text in ("the cat . on ' mat , we 's ? a", *older_tokenizers.TEXTS):
    ids = theirs(text)['input_ids']
    ours_text = ours.decode(ids, skip_special_tokens=True)
    assert ours_text == theirs.decode(ids, skip_special_tokens=True)
