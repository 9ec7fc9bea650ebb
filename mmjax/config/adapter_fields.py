"""Fields of the section `adapter`: low-rank adapters of a frozen model."""

from mmjax.config.fields import Field

ADAPTER = {
  'layers': Field(
    'strings',
    (),
    'regexes of dense layers that get a LoRA adapter, the rest being frozen; '
    '(): no adapters',
  ),
  'train': Field(
    'strings', (), 'regexes of parameters trained in full beside the adapters'
  ),
  'rank': Field('int', 8, 'rank of the adapters', minimum=1),
  'alpha': Field(
    'float', 16.0, 'alpha / rank is the factor on an adapter', above=0
  ),
  'dropout': Field(
    'float', 0.0, 'dropout on the inputs of adapters', minimum=0, maximum=1
  ),
  'rank_stabilized': Field(
    'bool', False, 'whether the factor is alpha / sqrt(rank) (rsLoRA)'
  ),
  'dora': Field(
    'bool', False, "whether to learn the norms of kernels' columns too (DoRA)"
  ),
  'frozen_dtype': Field(
    'str',
    'bfloat16',
    'dtype of the frozen parameters beside adapters',
    choices=('float32', 'bfloat16'),
  ),
  'quantize': Field(
    'str',
    '',
    "how frozen dense layers' kernels are stored (QLoRA); '': in frozen_dtype",
    choices=('', 'int8', 'nf4'),
  ),
  'double_quantize': Field(
    'bool', False, 'whether to quantise the scales of quantised kernels too'
  ),
}
