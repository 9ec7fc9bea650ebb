"""Chat templates write what they write in transformers, and mask the same."""

import json
import pathlib
import shutil

import pytest
import tokenizers
import transformers

from mmjax import pretrained
from mmjax.data import chat_ids, chat_templates
from tests.data import chat_forms, chat_tokenizer
from tests.oracles import conversations

GOLDEN = pathlib.Path(__file__).parents[1] / 'pretrained/golden'


@pytest.fixture(scope='module')
def tokenizer():
  return chat_tokenizer.make()


def _wrap(tokenizer: tokenizers.Tokenizer, source: str):
  """The same tokenizer and template in transformers."""
  theirs = transformers.PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, **chat_forms.TOKENS
  )
  theirs.chat_template = source
  return theirs


@pytest.mark.parametrize('name', chat_forms.FORMS)
def test_texts_ids_and_masks_are_those_of_transformers(name, tokenizer):
  """Also where our template doesn't say what is learnt, and theirs does."""
  form = chat_forms.FORMS[name]
  theirs = _wrap(tokenizer, chat_forms.mark(form))
  ours = {
    kind: chat_templates.ChatTemplate(
      {'default': make(form)}, chat_forms.TOKENS
    )
    for kind, make in (
      ('marked', chat_forms.mark),
      ('plain', chat_forms.unmark),
    )
  }
  rows = chat_forms.make_conversations(
    conversations.NUMBER, 5, parts=name in chat_forms.PART_FORMS
  )
  number = 0
  for messages in rows:
    for settings in (
      {'add_generation_prompt': False},
      {'add_generation_prompt': True, 'enable_thinking': False},
    ):
      text = theirs.apply_chat_template(messages, tokenize=False, **settings)
      want = theirs.apply_chat_template(
        messages, return_assistant_tokens_mask=True, **settings
      )
      for kind, template in ours.items():
        got = chat_ids.encode(tokenizer, template, messages, **settings)
        assert got.text == text
        assert list(got.ids) == want['input_ids']
        assert list(got.loss_mask) == want['assistant_masks'], (kind, got.text)
      number += sum(want['assistant_masks'])
  assert number


def test_tools_and_the_names_of_templates_are_those_of_transformers(
  tmp_path, tokenizer
):
  """Of a folder with two templates, whose special tokens its file names."""
  theirs = _wrap(tokenizer, chat_forms.unmark(chat_forms.LLAMA3))
  theirs.chat_template = {
    'default': theirs.chat_template,
    'tool_use': 'with tools: {{ tools | tojson }} {{ eos_token }}',
  }
  theirs.save_pretrained(tmp_path)
  assert json.loads((tmp_path / 'tokenizer_config.json').read_text())
  ours = chat_templates.load(tmp_path, {})
  messages = [{'role': 'user', 'content': 'é <a> & b'}]
  tools = [{'type': 'function', 'function': {'name': "f<é>'", 'n': 1}}]
  for settings in (
    {},
    {'tools': tools},
    {'tools': tools, 'name': 'default'},
    {'name': 'tool_use'},
  ):
    renamed = {'chat_template': settings.get('name')}
    renamed |= {k: v for k, v in settings.items() if k != 'name'}
    assert ours.render(messages, **settings) == theirs.apply_chat_template(
      messages, tokenize=False, **renamed
    )


def test_a_model_answers_as_in_transformers(tmp_path):
  """Greedily, with a template that leaves the special tokens to the text."""
  shutil.copytree(GOLDEN / 'llama', tmp_path, dirs_exist_ok=True)
  (tmp_path / 'chat_template.jinja').write_text(
    '{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}'
  )
  (tmp_path / 'tokenizer_config.json').write_text(
    json.dumps({'bos_token': '<s>', 'eos_token': '</s>'})
  )
  theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
  names = transformers.AutoTokenizer.from_pretrained(tmp_path)
  messages = [{'role': 'user', 'content': 'a small red'}]
  inputs = names.apply_chat_template(messages, return_tensors='pt')
  written = theirs.generate(**inputs, max_new_tokens=7, do_sample=False)
  new = written[0, inputs['input_ids'].shape[1] :]
  want = names.decode(new, skip_special_tokens=True)
  ours = pretrained.load(tmp_path).chat(messages, max_new_tokens=7)
  assert ours.strip() and ours.strip() == want.strip()
