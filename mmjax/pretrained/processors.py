"""Where a folder has the settings of what prepares inputs.

Newer releases write them as parts of processor_config.json, older ones as files
of their own. The processor's other settings concern prompts with placeholders,
whose number config.json gives here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mmjax.pretrained import configs, preprocess, sections

FILE = 'processor_config.json'
# Parts, by what they prepare.
IMAGES = ('image_processor',)
SOUNDS = ('feature_extractor', 'audio_processor')
VIDEOS = ('video_processor',)
VIDEO_FILE = 'video_preprocessor_config.json'

SECTION = sections.Section(
  read=(*IMAGES, *SOUNDS, *VIDEOS),
  only={'audio_tokenizer': None},
  irrelevant=(
    'auto_map',
    'chat_template',
    'image_seq_length',
    'image_token',
    'num_additional_image_tokens',
    'num_query_tokens',
    'patch_size',
    'processor_class',
    'tokenizer',
    'video_token',
    'vision_feature_select_strategy',
  ),
)


def find(
  files: Mapping[str, bytes],
  parts: Sequence[str] = IMAGES,
  own: str = preprocess.FILE,
) -> tuple[dict[str, Any], str] | None:
  """Settings, and the name of the file that has them; None without any.

  A part of processor_config.json comes before a file, as in transformers.

  Args:
    files: the small files of a model's folder, by name.
    parts: names of the part.
    own: the file that has the same settings alone.

  Raises:
    ConfigError: if a file is broken, or processor_config.json has a key or
      value that mmjax refuses.
  """
  if FILE in files:
    given = configs.parsed(files[FILE], FILE)
    sections.check_file(given, SECTION, FILE)
    for part in parts:
      if given.get(part) is not None:
        return given[part], FILE
  if own in files:
    return configs.parsed(files[own], own), own
  return None
