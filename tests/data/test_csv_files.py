"""CSV files are read, and broken rows reported."""

import dataclasses

import pytest

from mmjax.data import csv_files, image_rows, raw_records

OPTIONS = image_rows.Options()


def _read(path, text=None, **options):
  if text is not None:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
  return list(csv_files.read([path], image_rows.Options(**options)))


def _list_captions(raws):
  """Lists the caption of each row, or the reason why it can't be read."""
  captions = []
  for raw in raws:
    try:
      captions.append(raw.read_fields().get('caption'))
    except ValueError as error:
      captions.append(error)
  return captions


def test_csv_rows(tmp_path):
  (tmp_path / 'dog.png').write_bytes(b'dog')
  first, second, third = _read(
    tmp_path / 'pets.csv',
    '\ufeffimage,caption,n\n'
    'dog.png,"a dog, sitting",3\n'
    'dog.png,"[""a"", ""b""]",\n'
    'cat.png,"[text] of two\nlines]",5\n',
  )
  assert (first.id, first.where) == ('dog.png', 'pets.csv, line 2')
  assert first.read_fields() == {
    'caption': 'a dog, sitting',
    'n': '3',
    'file': 'dog.png',
  }
  assert first.read_image() == b'dog'
  assert first.is_part and second.is_part and third.is_part
  assert (second.id, second.group) == ('dog.png', 'dog.png')
  assert second.read_fields() == {'caption': ['a', 'b'], 'file': 'dog.png'}
  assert third.read_fields()['caption'] == '[text] of two\nlines]'


@pytest.mark.parametrize(
  'text, captions',
  [
    ('filepath\ttitle\n1.png\ta dog, small\n', ['a dog, small']),
    ('image;caption\n1.png;a dog, small\n', ['a dog, small']),
    ('image_name| comment\n1.png| a, b\n', ['a, b']),
    ('Image, Caption\n1.png, "a, b"\n', ['a, b']),
    ('image,caption_0,caption_1\n1.png,a,b\n', [['a', 'b']]),
    ('image,caption,,\n1.png,a,,\n2.png,b,,,\n', ['a', 'b']),
    ('image,caption\r1.png,a\r2.png,b\r', ['a', 'b']),
    ("image,caption\n1.png,\"['a', 'b']\"\n,,\n", [['a', 'b']]),
    ("image,caption\n1.png,[{'raw': 'a'}]\n", [[{'raw': 'a'}]]),
    ('image,caption,questionId,options\n1.png,a,7,b\n', ['a']),
    ('image,caption\n1.png,ä\n'.encode('utf-16'), ['ä']),
    ('image,caption\n1.png,12\n2.png,a\n', ['12', 'a']),
    ('image,caption\n1.png,ä\n'.encode('utf-16-le'), ['ä']),
    ('image,caption\n1.png,ä\n'.encode('utf-16-be'), ['ä']),
    ('image,caption\n1.png,ä\n'.encode('utf-32'), ['ä']),
    ('\ufeffsep=;\r\nimage;caption\r\n1.png;a, b\r\n', ['a, b']),
    ('# by me\n#image, text\n\nimage,caption\n1.png,# a\n', ['# a']),
    ('#image,caption\n1.png,a\n', ['a']),
    ('File Name,captionText\n1.png,a\n', ['a']),
    (',image,,caption\n0,1.png,x,a\n', ['a']),
    (
      'image,caption\n1.png,"a \\"big\\", dog"\n2.png,b\n',
      ['a "big", dog', 'b'],
    ),
    ('image,caption\n1.png,"a \\""\n2.png,"b \\"\n', ['a "', 'b \\']),
  ],
)
def test_unambiguous_texts(tmp_path, text, captions):
  raws = _read(tmp_path / 'pets.csv', text)
  assert _list_captions(raws)[: len(captions)] == captions
  assert raws[0].id == '1.png'


def test_a_stray_quotation_mark_costs_its_line(tmp_path):
  text = 'image,caption\n1.png,"a ruler\n2.png,b\n3.png,c\n'
  first, *rest = _list_captions(_read(tmp_path / 'pets.csv', text))
  assert "in column 'caption' does not close" in str(first)
  assert rest == ['b', 'c']
  # A second one closes the first.
  text = 'image,caption\n1.png,"a\n2.png,b\n3.png,"\n4.png,d\n'
  first, second, third, last = _list_captions(
    _read(tmp_path / 'pets.csv', text)
  )
  assert 'it extends into line 3' in str(first)
  assert (second, last) == ('b', 'd')
  assert 'does not close' in str(third)
  marks = _list_captions(_read(tmp_path / 'pets.csv', quotes=False))
  assert marks == ['"a', 'b', '"', 'd']


@pytest.mark.parametrize(
  'text, message',
  [
    ('', 'has no header line'),
    ('# no table\n', 'has no header line'),
    ('image   caption\n1.png   a\n', "'image   caption', separated by"),
    ('a dog\t1.png\n', 'if the file has no header, add a line'),
    ('a dog\thttp://x/1\n', 'no header, .* URL .*; download the images first'),
    ('imgae,caption\n', "'imgae' is unknown; if it is the image, add"),
    ('image,caption\n1.png,"a \\"b" c"\n', "mark in column 'caption' does not"),
    ('a,b\n1,2\n', "'a', 'b', separated by ',', none of which is known"),
    ('caption\na dog, sitting\n', r'more cells \(2\) than the 1 columns'),
    ('image,caption, Caption\n', "'Caption' occurs twice"),
    ('image,captoin\n', "'captoin' is unknown; if it is the caption, add"),
    ('image,text,title\n', "'text', 'title' could all be the caption"),
    ("image,caption\n1.png,['a' 'b']\n", 'have no commas between'),
    ("image,caption\n1.png,['a]\n", 'looks like a list'),
    ("image,caption\n1.png,\"['a'\n'b']\"\n", 'have no commas between'),
    ('image,' + 'x' * 200_000, 'is too long for a header'),
    ('Image Path,Image Name,text\n', "'--columns=image=Image Path'"),
    ('image,caption\n\ufeffimage,caption\n', 'it repeats the header'),
    ('image,caption\n1.png;a\n', "separated by ';', but those of the header"),
    ('PK\3\4\0', 'is a zip archive'),
    (b'image,caption\n1.png,gro\xdf\n', 'byte 0xdf is not UTF-8'),
    ('image,caption\nhttp://x/1.png,a\n', 'is a URL'),
    ('image,caption\n../1.png,a\n', 'is outside .*; name the folder'),
    ('image,caption\n/etc/1.png,a\n', 'is outside .*--images=/etc'),
    (f'image,caption\n/9j/{"4AAQ" * 20},a\n', 'is encoded as text; write'),
    ('image,caption\n ,a\n', 'its image is missing'),
    ('caption,image\na\n', 'its image is missing'),
    ('image,caption\n1.png,3\n2.png,\n', "are numbers, such as '3'"),
  ],
)
def test_refused_texts(tmp_path, text, message):
  (raw,) = _read(tmp_path / 'pets.csv', text)
  with pytest.raises(ValueError, match=message):
    raw.read_fields()


def test_a_very_long_cell_costs_its_line(tmp_path):
  text = f'image,caption\n1.png,{"word " * 30_000}\n2.png,b\n'
  first, second = _list_captions(_read(tmp_path / 'pets.csv', text))
  assert 'write longer texts as JSONL or Parquet' in str(first)
  assert second == 'b'


def test_columns_by_name(tmp_path):
  text = 'file,caption,title\n1.png,long,short\n'
  wanted = (('image', 'file'), ('caption', 'title'))
  (raw,) = _read(tmp_path / 'pets.csv', text, columns=wanted)
  assert raw.id == '1.png'
  assert raw.read_fields() == {
    'caption': 'short',
    'caption_column': 'long',
    'file': '1.png',
  }
  for field, column, message in (
    ('image', 'photo', "no column 'photo' for image; there"),
    ('file', 'image', 'the field comes first: --columns=image=file'),
    ('capton', 'title', 'did you mean --columns=caption=title'),
  ):
    (raw,) = _read(tmp_path / 'pets.csv', columns=((field, column),))
    with pytest.raises(ValueError, match=message):
      raw.read_fields()


def test_one_image_has_one_name(tmp_path):
  (tmp_path / 'x').mkdir()
  (tmp_path / 'dög.png').write_bytes(b'dog')
  (tmp_path / 'link.png').symlink_to('dög.png')
  names = ['dög.png', './dög.png', 'x/../dög.png', 'link.png', 'do\u0308g.png']
  names += [f'{tmp_path}/dög.png', '.\\dög.png', 'dög.PNG']
  names += [f'file://{tmp_path}/dög.png']
  rows = '\n'.join(f'{name},caption' for name in names)
  raws = _read(tmp_path / 'pets.csv', f'image,caption\n{rows}\n')
  assert {raw.id for raw in raws} == {'dög.png'}
  assert {raw.group for raw in raws} == {'dög.png'}
  assert {raw.read_image() for raw in raws} == {b'dog'}


def test_other_images_of_one_name_have_other_ids(tmp_path):
  paths = [tmp_path / name / 'rows.csv' for name in 'ab']
  for path in paths:
    path.parent.mkdir()
    path.write_text(
      'image,caption\ndog.png,a dog\ncat.png,a cat\ndog.png,a pet\n'
    )
  ids = [row.id for row in csv_files.read(paths, OPTIONS)]
  assert ids[:3] == ['dog.png', 'cat.png', 'dog.png']
  assert ids[3:] == ['dog.png#2', 'cat.png#2', 'dog.png#2']


def test_a_row_without_an_image_may_have_a_field_file(tmp_path):
  (raw,) = _read(tmp_path / 'pets.csv', 'caption,file\na,notes\n')
  assert not raw.is_part and raw.group == 'pets-2' and raw.read_image() == b''


def test_captions_that_are_numbers_are_taken_by_the_name_of_their_column(
  tmp_path,
):
  text = 'image,label\n1.png,3\n'
  raws = _read(tmp_path / 'pets.csv', text, columns=(('caption', 'label'),))
  assert _list_captions(raws) == ['3']


def test_captions_of_languages(tmp_path):
  text = 'image,Caption_EN,caption-de,caption_id,title\n1.png,a,b,7,c\n'
  (raw,) = _read(tmp_path / 'pets.csv', text)
  record = raw_records.to_record(dataclasses.replace(raw, read_image=bytes))
  assert record['fields']['captions'] == ['a']
  assert record['metadata'] == {
    'captions': {'en': 'a', 'de': 'b'},
    'caption_id': '7',
    'title': 'c',
    'file': '1.png',
  }
  wanted = (('caption', 'caption-de'),)
  (raw,) = _read(tmp_path / 'pets.csv', columns=wanted)
  fields = raw.read_fields()
  assert (fields['caption'], fields['caption_en_column']) == ('b', 'a')
