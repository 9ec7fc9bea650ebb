"""Which classes a model without training on them chooses from."""

from mmjax.data import sources
from mmjax.inference import targets


def test_all_classes_that_the_data_set_lists_are_offered():
  row = {'id': 'a', 'fields': {'kind': ['dog']}, 'metadata': {}}
  source = sources.ListSource([row], kinds={'kind': 'category'})
  source.classes = {'kind': ['cat', 'dog', 'owl']}
  view = sources.select(source, {'id': 'a'})
  assert targets.make(view, 'kind').classes == ('cat', 'dog', 'owl')
  assert targets.make(view, 'kind', ['dog', 'elk']).classes == ('dog', 'elk')
