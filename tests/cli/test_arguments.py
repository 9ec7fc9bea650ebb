"""What is refused on a command line: in one line, with code 2 and a way out."""

import pytest

from mmjax.cli import main

CONFIG = 'def get_config():\n  return {}\n'


@pytest.mark.parametrize(
  ('command', 'message'),
  [
    ('daat list', "'daat' is not a command; did you mean data?"),
    ('data list --data_dri=x', '--data_dri is not a flag; did you mean --data'),
    ('report . --fast', '--fast is not a flag;'),
    ('report', 'the following arguments are required: workdir'),
    ('convert IN OUT more', "'more' is not expected here"),
    (
      'data import --format=cvs --input=x --name=x',
      "argument --format: 'cvs' is unknown; use one of csv, ",
    ),
    ('data import --format=cvs', "; did you mean 'csv'?"),
    ('convert IN OUT --dtype=float17', "did you mean 'float16'?"),
    (
      'plan --config=c.py --topology=cpu:1 --batch_size=3',
      'did you mean --config.train.batch_size or --config.eval.batch_size?',
    ),
    ('predict RUN --image=no.png', '--image=no.png: cannot read it'),
    ('predict RUN --image=FOLDER', 'FOLDER has no file that ends in .png'),
    ('predict RUN --image=no*.png', "no file matches 'no*.png'"),
    ('predict --image=i', 'required: MODEL'),
    ('predict RUN', 'one of --image, --sound, --input and --text is required'),
    ('predict RUN --image=i --text=', '--text is empty'),
    ('predict RUN --image=i --question=', '--question is empty'),
    ('predict RUN --image=i --beam_size=0', 'use 1 or more'),
    ('chat RUN --image=no.png', '--image=no.png: cannot read it'),
    ('search RUN --index=i --sound=no.wav', '--sound=no.wav: cannot read it'),
    ('convert IN FILE', 'OUT=FILE is a file'),
    ('convert IN FILE/out', 'OUT=FILE/out is inside FILE, which is a file'),
    ('convert RUN out --adapter', '--adapter: RUN has no adapters; train some'),
    ('convert RUN /proc/out', 'OUT=/proc/out: cannot write it'),
    ('evaluate RUN --data=d --output=FILE/out', 'is inside FILE, which is a'),
    ('evaluate RUN --data=d --classes=no.txt', '1 class, and there is no file'),
    (
      'embed RUN --images=no.png --output=/proc/x.npz',
      '--output=/proc/x.npz: cannot write it',
    ),
    ('data show d --output=FILE/x.png', 'is inside FILE, which is a file'),
    (
      'search RUN --index=i --text=a --output=no/x.png',
      '--output=no/x.png: there is no folder no',
    ),
    (
      'data show d --tokenizer=FOLDER',
      '--tokenizer=FOLDER: cannot read it: is',
    ),
    (
      'data import --format=csv --input=FILE --name=x --images=no',
      '--images=no: there is no such folder',
    ),
    (
      'plan --config=c.py --topology=cpu:1 --json=FOLDER',
      '--json=FOLDER is a folder; name a file',
    ),
    ('plan --config=FOLDER --topology=cpu:1', '--config=FOLDER: a folder, not'),
  ],
)
def test_a_refused_command_line(
  command, message, tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)
  for name in ('FOLDER', 'RUN'):
    (tmp_path / name).mkdir()
  (tmp_path / 'FILE').touch()
  try:
    code = main.main(command.split())
  except SystemExit as end:  # argparse ends commands so.
    code = end.code
  error = capsys.readouterr().err
  assert code == 2
  assert message in error
  # Only an unknown command is followed by the list of commands.
  assert error.count('\n') == 1 or command.startswith('daat')


@pytest.mark.parametrize(
  'command',
  [
    'chat WRONG',
    'convert WRONG OUT',
    'demo WRONG',
    'embed WRONG --images=no.png --output=o.npz',
    'evaluate WRONG --data=no',
    'predict WRONG --image=no.png',
    'report WRONG',
    'search WRONG --index=no.npz --text=a',
    'sweep-report WRONG',
  ],
)
@pytest.mark.parametrize('wrong', ['./runs/frist', './rusn/first', './x/first'])
def test_a_missing_folder_is_named_first_with_the_one_that_may_be_meant(
  command, wrong, tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'runs/first').mkdir(parents=True)
  assert main.main(command.replace('WRONG', wrong).split()) == 2
  error = capsys.readouterr().err
  folder = wrong.removeprefix('./')
  assert f'there is no folder {folder}' in error.replace(wrong, folder)
  meant = "; did you mean 'runs/first'?\n"
  assert error.endswith(meant) == ('x/' not in wrong) == ('did you' in error)
