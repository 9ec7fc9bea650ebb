"""Finds the settings of preprocessors in a folder.

Newer releases write them as parts of processor_config.json, older ones as files
of their own. The other settings of processor_config.json concern prompts with
placeholders, whose number follows from config.json here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mmjax.pretrained import configs, preprocess, preprocess_audio, sections

FILE = 'processor_config.json'
# Names of the parts for each kind of input.
IMAGES = ('image_processor',)
SOUNDS = ('feature_extractor', 'audio_processor')
VIDEOS = ('video_processor',)
VIDEO_FILE = 'video_preprocessor_config.json'
# Keys that say that a file has the settings of images, and of sounds.
_KINDS = ('image_processor_type', 'feature_extractor_type')

SECTION = sections.Section(
  read=(*IMAGES, *SOUNDS, *VIDEOS),
  only={'audio_tokenizer': None},
  irrelevant=(
    'auto_map',
    'chat_template',
    'image_seq_len',
    'image_seq_length',
    'image_token',
    'num_image_tokens',
    'num_additional_image_tokens',
    'num_query_tokens',
    'patch_size',
    'processor_class',
    'tokenizer',
    'video_token',
    'vision_aspect_ratio',
    'vision_feature_select_strategy',
  ),
)


def find(
  files: Mapping[str, bytes],
  parts: Sequence[str] = IMAGES,
  file: str = preprocess.FILE,
) -> tuple[dict[str, Any], str] | None:
  """Finds settings and the name of their file; None if there are none.

  A part of processor_config.json takes precedence, as in transformers.

  Args:
    files: the small files of a model's folder, by name.
    parts: names of the part.
    file: name of the file with the same settings alone.

  Raises:
    ConfigError: if a file is broken, or processor_config.json has a key or
      value that mmjax refuses.
  """
  if FILE in files:
    settings = configs.parse(files[FILE], FILE)
    sections.check_file(settings, SECTION, FILE)
    for part in parts:
      if settings.get(part) is not None:
        return settings[part], FILE
  if file in files:
    return _choose(configs.parse(files[file], file), parts), file
  return None


def _choose(settings: dict[str, Any], parts: Sequence[str]) -> dict[str, Any]:
  """The settings of one preprocessor, of a file that may have two."""
  if not all(key in settings for key in _KINDS):
    return settings
  section = preprocess_audio.WHISPER_SECTION
  heard = {*section.read, *section.only, *section.irrelevant}
  return {
    key: value
    for key, value in settings.items()
    if (key in heard) == (parts == SOUNDS)
  }
