"""The figure of the README: what one model makes of scenes of the test split.

  python benchmarks/readme_picture.py RUN OUTPUT.png

RUN is a run of `configs/pretrain_shapes.py`. Of each scene, the sheet has the
model's caption and its answer to one question, right ones in green and wrong
ones in red. The scenes are the first of the split, not chosen.
"""

import sys

import PIL.Image

import mmjax
from mmjax.data import contact_sheet, images, sources

NUMBER = 8


def draw(folder: str) -> PIL.Image.Image:
  """A contact sheet of the run in a folder."""
  run = mmjax.load(folder)
  source = sources.open_source(run.config.data.name, 'test')
  records = [source[i]['fields'] for i in range(NUMBER)]
  scenes = [images.decode(record['image']) for record in records]
  # Another question for each scene, so that all kinds are there.
  asked = [
    r['questions'][i % len(r['questions'])] for i, r in enumerate(records)
  ]
  written = run.caption(scenes)
  answers = run.answer(scenes, [each['question'] for each in asked])
  cells = []
  for i, record in enumerate(records):
    right = written[i] in record['captions']
    answer = (
      contact_sheet.RIGHT
      if answers[i] in asked[i]['answers']
      else (contact_sheet.WRONG)
    )
    cells.append(
      (
        scenes[i],
        [
          (written[i], contact_sheet.RIGHT if right else contact_sheet.WRONG),
          (asked[i]['question'], contact_sheet.QUIET),
          (answers[i], answer),
        ],
      )
    )
  return contact_sheet.render(cells, columns=4, image_size=192, font_size=15)


if __name__ == '__main__':
  draw(sys.argv[1]).save(sys.argv[2], optimize=True)
