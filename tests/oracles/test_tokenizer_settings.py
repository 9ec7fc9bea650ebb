"""Ids under the settings of tokenizer_config.json are transformers'."""

import json
import pathlib
import shutil

import pytest
import transformers

from mmjax import pretrained

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
