"""Writes docs/published_settings.md from the families' own tables.

python -m mmjax.pretrained.settings_page > docs/published_settings.md
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from mmjax.pretrained import (
  families,
  generation_keys,
  generation_settings,
  llava_onevision,
  patches,
  preprocess,
  preprocess_audio,
  processors,
  sections,
  sentence_dense,
  sentence_steps,
  sentences,
  siglip2,
  tokenizer_settings,
)

_INTRODUCTION = """\
# Settings of published models

Made by `python -m mmjax.pretrained.settings_page` from the tables in
`mmjax/pretrained`; do not edit.

Every key of the files beside a model's weights is read, or refused unless it
has the value in the table, or irrelevant to what the model computes. A key that
is not in the table is refused with an error that names it. Null is allowed
instead of any value but true. [pretrained.md](pretrained.md) says how to load a
folder.
"""
_GENERATION = """
## generation_config.json

Read when a model generates text, so that a refused key does not prevent
encoding or scoring; without the file, the same keys of config.json are read.
Arguments of `generate` take precedence. transformers ignores the file for the
language models in BLIP and BLIP-2: there, keys that would change a text are
refused. Beam search is that of transformers, with `num_beams` or the argument
`beam_size`; `beam_size=1` is greedy whatever `num_beams` is. Sampling with
beams is refused, and so is any beam search with Whisper.
"""
_FILES = {
  'preprocessor_config.json': {
    'images': preprocess.SECTION,
    'SigLIP 2': siglip2.PREPROCESSING,
    'Qwen2-VL, Qwen2.5-VL, Qwen3-VL, Qwen2.5-Omni': patches.SECTION,
    'LLaVA-OneVision': llava_onevision.PREPROCESS,
    'Whisper, Qwen2-Audio, Qwen2.5-Omni': preprocess_audio.WHISPER_SECTION,
    'Audio Spectrogram Transformer': preprocess_audio.AST_SECTION,
    'EnCodec': preprocess_audio.ENCODEC_SECTION,
  },
  'processor_config.json': {
    'besides the parts, which are as above': processors.SECTION,
  },
  tokenizer_settings.FILE: {
    'texts; any other key that ends in `_token` names a special token': (
      tokenizer_settings.SECTION
    ),
  },
  'Files of sentence encoders': {
    sentence_steps.SETTINGS: sentences.SETTINGS_SECTION,
    sentence_steps.PROMPTS: sentences.PROMPTS_SECTION,
    'config.json of Pooling': sentences.POOLING_SECTION,
    'config.json of Dense': sentence_dense.SECTION,
    'config.json of Normalize': sentences.NORMALIZE_SECTION,
  },
}
_HEADER = '\n| | read | refused unless | irrelevant |\n|---|---|---|---|'


def page() -> str:
  """Text of the page."""
  return '\n'.join(_lines()) + '\n'


def _lines() -> Iterator[str]:
  yield _INTRODUCTION
  yield '## config.json'
  yield _HEADER
  yield _row(
    'any part, unless below',
    sections.Section(sections.READ, sections.ONLY, sections.IRRELEVANT),
  )
  kinds = [('model_type', kind) for kind in families.FAMILIES]
  kinds += [('_class_name', kind) for kind in families.DIFFUSERS]
  for key, kind in kinds:
    family = families.find({key: kind})
    for name, section in family.sections.items():
      yield _row(f'`{kind}`' + (f' {name}' if name else ''), section)
  yield _GENERATION
  yield '| key | |\n|---|---|'
  yield from _generation()
  for title, kinds in _FILES.items():
    yield f'\n## {title}'
    yield _HEADER
    for name, section in kinds.items():
      yield _row(name, section)


def _row(name: str, section: sections.Section) -> str:
  read = [
    *section.read,
    *(f'{other} (as {key})' for other, key in section.aliases.items()),
  ]
  only = {k: v for k, v in section.only.items() if k not in section.read}
  refused = [f'{key}: {_value(only[key])}' for key in sorted(only)]
  irrelevant = set(section.irrelevant) - {*section.read, *section.only}
  cells = [name, _list(read), ', '.join(refused), _list(irrelevant)]
  return f'| {" | ".join(cells)} |'


def _generation() -> Iterator[str]:
  named: dict[str, Collection[str]] = {
    'read': generation_keys.HONOURED,
    'irrelevant': generation_keys.IRRELEVANT,
    'read by Whisper alone': generation_keys.SPEECH,
  }
  for name, keys in named.items():
    yield f'| {name} | {_list(keys)} |'
  refused: dict[str, Mapping[str, tuple[Any, ...]]] = {
    'refused unless': generation_keys.ONLY,
    'where it samples, refused unless': generation_keys.ONLY_SAMPLING,
    'with several beams, refused unless': generation_keys.ONLY_BEAMS,
    'of Whisper, refused unless': generation_keys.ONLY_SPEECH,
  }
  for name, only in refused.items():
    rows = [
      f'{key}: {" or ".join(map(_value, values or (None,)))}'
      for key, values in sorted(only.items())
    ]
    yield f'| {name} | {", ".join(rows)} |'
  length = generation_settings.DEFAULT_LENGTH
  yield f'| new tokens where nothing says how many | {length} |'


def _list(keys: Collection[str]) -> str:
  return ', '.join(sorted(set(keys)))


def _value(value: Any) -> str:
  if value is None or isinstance(value, bool):
    return {None: 'null', True: 'true', False: 'false'}[value]
  return str(value)


if __name__ == '__main__':
  print(page(), end='')
