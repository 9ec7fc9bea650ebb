"""The formats that can be imported: name, meaning and reader of each."""

import dataclasses
import importlib
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Format:
  """One kind of input.

  Attributes:
    meaning: description of the input, for --help.
    module: module of this package that reads it, imported when needed.
    function: function of the module: (paths, options) -> raw records.
    endings: endings of the files that are read from a folder, before those of
      `compressed_files`; empty if folders are refused, None if the input is
      itself a folder.
  """

  meaning: str
  module: str
  function: str = 'read'
  endings: tuple[str, ...] | None = ()

  def import_reader(self) -> Callable:
    """Imports the module and returns the function."""
    module = importlib.import_module(f'mmjax.data.{self.module}')
    return getattr(module, self.function)


FORMATS = {
  'csv': Format(
    'a table with a header, one row per image',
    'csv_files',
    endings=('.csv', '.tsv'),
  ),
  'jsonl': Format(
    'one JSON object per line, or a list of them',
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
    'a folder of images with metadata.csv, texts beside them, or one folder '
    'per class',
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
    'questions and annotations of VQA v2, separated by a comma',
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
