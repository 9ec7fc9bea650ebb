"""A small LLaVA that chats, and what is said to it."""

import base64
import io
import json
import shutil
from pathlib import Path

import PIL.Image

from tests.data import chat_forms

GOLDEN = Path(__file__).parents[1] / 'pretrained/golden'


def _encode(color):
  stream = io.BytesIO()
  PIL.Image.new('RGB', (24, 18), color).save(stream, 'PNG')
  content = base64.b64encode(stream.getvalue()).decode()
  return f'data:image/png;base64,{content}'


def say(text, *colors):
  images = [
    {'type': 'image_url', 'image_url': {'url': _encode(color)}}
    for color in colors
  ]
  content = [*images, {'type': 'text', 'text': text}] if images else text
  return [{'role': 'user', 'content': content}]


def make_folder(folder):
  """A LLaVA that chats, and has positions for more than it needs."""
  shutil.copytree(GOLDEN / 'llava', folder)
  (folder / 'chat_template.jinja').write_text(
    chat_forms.unmark(chat_forms.LLAVA)
  )
  (folder / 'tokenizer_config.json').write_text(
    json.dumps({'eos_token': '</s>'})
  )
  config = json.loads((folder / 'config.json').read_text())
  config['text_config']['max_position_embeddings'] = 256
  (folder / 'config.json').write_text(json.dumps(config))
  return folder
