"""Embeddings of files: resumed, skipped, searched, and refused."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from mmjax.cli import embed, main, search
from mmjax.errors import ConfigError
from mmjax.inference import embedding, encoders, index, inputs, opened
from mmjax.pretrained import checkpoint
from mmjax.runs import owner

CLIP = Path(__file__).parents[1] / 'pretrained/golden/clip'
OTHER = CLIP.with_name('siglip')
NUMBER = 5


@pytest.fixture(scope='module')
def model():
  return opened.open_model(str(CLIP))


@pytest.fixture
def photos(tmp_path):
  folder = tmp_path / 'photos'
  folder.mkdir()
  rng = np.random.default_rng(0)
  for i in range(NUMBER):
    pixels = rng.integers(0, 256, (7, 9, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(folder / f'{i}.png')
  return folder


def run(model, folder, output, **options):
  """Embeds two images a part."""
  items = inputs.find('image', str(folder))
  encoder = encoders.choose_encoder(model, 'image')
  settings = embedding.Options(batch_size=2, num_threads=1, **options)
  return embedding.embed(model, encoder, items, output, settings)


@pytest.mark.parametrize('ending', ['npz', 'parquet'])
def test_a_killed_run_is_resumed_with_the_same_result(
  ending, model, photos, tmp_path, monkeypatch
):
  monkeypatch.setattr(embedding, '_PART', 2)
  whole = run(model, photos, tmp_path / f'whole.{ending}')
  real, calls = embedding.encode_padded, []

  def killed(*args):
    calls.append(1)
    if len(calls) == 2:
      raise KeyboardInterrupt
    return real(*args)

  output = tmp_path / f'out.{ending}'
  monkeypatch.setattr(embedding, 'encode_padded', killed)
  with pytest.raises(KeyboardInterrupt):
    run(model, photos, output)
  assert not output.exists()
  resumed = run(model, photos, output)
  assert len(calls) == 4  # The first of three batches isn't repeated.
  assert not (tmp_path / f'out.{ending}.parts').exists()
  read = index.load(output)
  assert read.names == resumed.names == [f'{i}.png' for i in range(NUMBER)]
  np.testing.assert_array_equal(read.embeddings, whole.embeddings)
  assert read.describe() == whole.describe()
  assert read.normalised and read.model == str(CLIP)


def test_parts_of_another_call_are_kept(model, photos, tmp_path, monkeypatch):
  (photos / '3.png').write_bytes(b'broken')
  monkeypatch.setattr(embedding, '_PART', 2)
  output = tmp_path / 'out.npz'
  with pytest.raises(ConfigError, match=r'3\.png: .*--on_error=skip'):
    run(model, photos, output)
  other = dataclasses.replace(model)
  other.__dict__['checksum'] = 1
  with pytest.raises(ConfigError, match=r'other weights; .*--overwrite'):
    run(other, photos, output)
  result = run(model, photos, output, on_error='skip')
  assert result.names == ['0.png', '1.png', '2.png', '4.png']
  skipped = tmp_path / 'out.npz.skipped.jsonl'
  (line,) = skipped.read_text().splitlines()
  assert json.loads(line)['where'] == '3.png'
  with pytest.raises(ConfigError, match=r'exists; .*--overwrite'):
    run(model, photos, output)


def test_one_process_at_a_time_writes_an_output(model, photos, tmp_path):
  output = tmp_path / 'out.npz'
  with (
    owner.claim(embedding.find_parts(output)),
    pytest.raises(ConfigError, match=r'in use by .*choose another --outp'),
  ):
    run(model, photos, output)
  assert len(run(model, photos, output).names) == NUMBER
  assert [path.name for path in tmp_path.glob('out*')] == ['out.npz']


def test_ctrl_c_says_how_to_resume(photos, tmp_path, monkeypatch, capsys):
  def stop(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(embedding, 'encode_padded', stop)
  output = tmp_path / 'out.npz'
  flags = [f'--images={photos}', f'--output={output}']
  assert main.main(['embed', str(CLIP), *flags]) == 130
  message = f'stopped; {output}.parts has what is done, and the same command'
  assert message in capsys.readouterr().err


def test_search_finds_an_image_by_itself_and_draws_it(
  photos, tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)
  paths = {'--images': 'photos', '--output': 'out.npz'}
  flags = [f'{flag}={value}' for flag, value in paths.items()]
  assert embed.main([str(CLIP), *flags]) == 0
  assert '5 unit vectors of 8 numbers' in capsys.readouterr().out
  ask = ['--index=out.npz', '--image=photos/4.png', '--top=2']
  search.main([str(CLIP), *ask, '--output=found.png'])
  _, first, second, path = capsys.readouterr().out.splitlines()
  assert first == ' 1.000  4.png'
  assert not second.endswith('4.png')
  assert PIL.Image.open(path).width > 2 * 160
  with pytest.raises(ConfigError, match=r'golden/clip.*weights are not those'):
    search.main([str(OTHER), *ask])


@pytest.mark.parametrize(
  ('command', 'message'),
  [
    ('embed IN --output=o.npz', 'exactly one of --images, --texts'),
    ('embed IN --images=I --output=o.txt', 'o.txt should end in .npz or .parq'),
    ('embed IN --images=I --output=no/o.npz', 'there is no folder no'),
    ('embed IN --images=no.png* --output=o.npz', "no file matches 'no.png*'"),
    ('embed IN --images=EMPTY --output=o.npz', 'EMPTY has no file that ends'),
    ('embed IN --images=no --output=o.npz', 'nor a prepared data set'),
    ('embed IN --images=EMPTY/no --output=o.npz', 'no file or folder EMPTY/no'),
    ('embed IN --texts=t.csv --output=o.npz', "no column '', but name, nr"),
    (
      'embed IN --texts=t.csv --column=nmae --output=o.npz',
      "did you mean 'name'?",
    ),
    ('embed IN --texts=t.csv --column=nr --output=o.npz', 'row 1 of nr is 3,'),
    ('search IN --index=no.npz --text=a', 'there is no index no.npz; write'),
    ('search IN --index=t.npz --text=a', 't.npz is not a whole file of'),
    ('search IN --index=no.npz', 'exactly one of --text, --image'),
    ('search IN --index=no.npz --text=', '--text is empty; give it'),
  ],
)
def test_refused(command, message, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  for name in ('IN', 'EMPTY'):
    (tmp_path / name).mkdir()
  (tmp_path / 't.csv').write_text('name,nr\na,3\n')
  (tmp_path / 't.npz').write_bytes(b'PK\x03\x04cut')
  try:
    code = main.main(command.split())
  except SystemExit as end:  # argparse ends commands so.
    code = end.code
  assert code == 2
  assert message in capsys.readouterr().err


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (['--images=photos', '--feature=imgae'], "'imgae' is unknown; .*'image'"),
    (['--texts=names.txt', '--feature=image'], 'of the kind image, not text'),
  ],
)
def test_a_field_is_refused_before_weights_are_read(
  flags, message, photos, tmp_path, monkeypatch
):
  def read(*_, **__):
    raise AssertionError('weights are read')

  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(checkpoint.keys, 'load', read)
  (tmp_path / 'names.txt').write_text('a cat\n')
  with pytest.raises(ConfigError, match=message):
    embed.main([str(CLIP), *flags, '--output=out.npz'])
