"""The Python blocks of README.md and of all pages run as they stand.

A block that needs weights or data of others has a comment above it, which says
so: `<!-- not run: why -->`. Blocks of a page share their names.
"""

import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / 'docs'
# Run in tests of their own, or equal to others.
ELSEWHERE = {
  'bring_your_own.md',
  'first_run.md',
  'first_run.zh.md',
  'README.zh.md',
}
# What the blocks of a page take for granted.
SETUP = {
  'README.md': """
from mmjax import encoders, tasks
from mmjax.training import experiment
class MyEncoder(encoders.ViT): pass
class Triplet(tasks.Contrastive): pass
""",
  'architecture.md': """
import flax.linen as nn, jax, jax.numpy as jnp
from mmjax import encoders, models
sizes = dict(width=8, depth=2, num_heads=2, mlp_dim=16)
model = models.DualEncoder(
  image=encoders.ViT(patch_size=4, **sizes),
  text=encoders.Transformer(vocab_size=11, max_length=5, **sizes),
  embed_dim=8,
)
batch = {
  'image': jnp.zeros((3, 8, 8, 3)), 'image_mask': jnp.ones(3, bool),
  'text': jnp.ones((3, 5), int), 'text_mask': jnp.ones((3, 5), bool),
}
params = nn.meta.unbox(
  jax.jit(lambda: model.init(jax.random.key(0), batch, train=False))()
)['params']
""",
  'chat.md': """
import ml_collections
config = ml_collections.ConfigDict(
  {'data': {'features': {}}, 'tasks': {'chat': {}}}
)
""",
  'contrastive_at_scale.md': """
import ml_collections
config = ml_collections.ConfigDict({'data': {}})
""",
  'preference.md': """
import ml_collections
config = ml_collections.ConfigDict(
  dict(data=dict(features={}), tasks={})
)
""",
  'data.md': 'import ml_collections; config = ml_collections.ConfigDict()',
  'embed_and_search.md': """
import pathlib, numpy
from mmjax.inference import index
index.save(
  index.Index(
    names=['a.png'], embeddings=numpy.ones((1, 1), 'float32'), model='runs/x',
    checksum=3, kind='image', feature='image', normalised=True, origin={},
  ),
  pathlib.Path('images.npz'),
)
""",
  'fusion.md': """
import ml_collections; config = ml_collections.ConfigDict({'model': {}})
""",
  'multimodal.md': """
import ml_collections; config = ml_collections.ConfigDict()
""",
  'pretrained.md': """
import mmjax, numpy
from mmjax.pretrained import keys
clip = mmjax.load('tests/pretrained/golden/clip')
images = clip.preprocess([numpy.zeros((9, 9, 3), 'uint8')])
""",
  'sweeps.md': 'from mmjax.sweeps.space import *',
}
_BLOCK = re.compile(
  r'^( *<!-- not run: .*?-->\n)?^ *```python\n(.*?)^ *```',
  re.DOTALL | re.MULTILINE,
)


def _blocks(page):
  """(reason not to run it, code) of each Python block of a page."""
  found = _BLOCK.findall(page.read_text())
  return [(reason.strip(), textwrap.dedent(code)) for reason, code in found]


PAGES = [
  page
  for page in [*sorted(ROOT.glob('*.md')), *sorted(DOCS.rglob('*.md'))]
  if page.name not in ELSEWHERE and any(not why for why, _ in _blocks(page))
]


def test_there_are_blocks_and_few_are_not_run():
  assert len(PAGES) >= 14
  pages = [*ROOT.glob('*.md'), *DOCS.rglob('*.md')]
  left_out = [why for page in pages for why, _ in _blocks(page) if why]
  assert len(left_out) <= 7
  # Every other fence is a language whose blocks are tested or shows output.
  for page in pages:
    fences = re.findall(r'^ *```(.*)$', page.read_text(), re.MULTILINE)
    assert {*fences[::2]} <= {'python', 'bash'}, page
    assert {*fences[1::2]} <= {''}, page
    # Indented blocks are commands and output.
    assert not re.search(r'\n\n {4}(config\.|import |from )', page.read_text())


@pytest.mark.slow
@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_blocks_run_and_print_what_they_say(
  page, monkeypatch, tmp_path, capsys
):
  # Paths in the blocks are those of the repository; what they write isn't.
  (tmp_path / 'tests').symlink_to(ROOT / 'tests')
  monkeypatch.chdir(tmp_path)
  names = {}
  exec(SETUP.get(page.name, ''), names)
  capsys.readouterr()
  for why, block in _blocks(page):
    if why:
      continue
    exec(compile(block, str(page), 'exec'), names)
    printed = capsys.readouterr().out.splitlines()
    said = re.findall(r'^print\(.*\)  # (\(?\d.*)$', block, re.MULTILINE)
    assert [line for line in printed if line in said] == said
