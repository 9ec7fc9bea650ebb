"""What can be imported: each format's name, meaning and reader."""

import dataclasses
import importlib
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Format:
  """One kind of input.

  Attributes:
    meaning: what the input is.
    module: of this package, imported when it is needed.
    function: of that module: (paths, options) -> raw records.
    endings: of the files that are read of a folder, besides those of
      `compressed_files`; none if folders are refused, None if the format is of
      folders.
  """

  meaning: str
  module: str
  function: str = 'read'
  endings: tuple[str, ...] | None = ()

  def reader(self) -> Callable:
    """The function itself."""
    module = importlib.import_module(f'mmjax.data.{self.module}')
    return getattr(module, self.function)


FORMATS = {
  'csv': Format(
    'a table with a header, one row an image',
    'csv_files',
    endings=('.csv', '.tsv'),
  ),
  'jsonl': Format(
    'a JSON object a line, or a list of them',
    'json_files',
    endings=('.jsonl', '.ndjson', '.json'),
  ),
  'parquet': Format(
    'a table as on the Hugging Face hub',
    'parquet_files',
    endings=('.parquet',),
  ),
  'webdataset': Format(
    'tars of KEY.jpg, KEY.txt, KEY.json',
    'webdataset',
    endings=('.tar', '.tgz'),
  ),
  'imagefolder': Format(
    'a folder of images with metadata.csv, texts beside them, or a folder a '
    'class',
    'image_folders',
    endings=None,
  ),
  'coco': Format('captions_*.json of COCO', 'annotation_files', 'read_coco'),
  'karpathy': Format(
    'dataset_*.json with the splits of Karpathy',
    'annotation_files',
    'read_karpathy',
  ),
  'vqa': Format(
    'questions and annotations of VQA v2, both with a comma between',
    'annotation_files',
    'read_vqa',
  ),
  'gqa': Format('questions of GQA', 'annotation_files', 'read_gqa'),
  'visual_genome': Format(
    'question_answers.json of Visual Genome',
    'annotation_files',
    'read_visual_genome',
  ),
  'conversations': Format(
    'conversations of LLaVA or ShareGPT, the first question and answer of each',
    'conversations',
  ),
}
