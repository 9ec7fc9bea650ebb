"""The page of settings is what the tables say."""

import pathlib

from mmjax.pretrained import settings_page

PAGE = pathlib.Path(__file__).parents[2] / 'docs/published_settings.md'


def test_the_page_is_up_to_date():
  command = (
    'python -m mmjax.pretrained.settings_page > docs/published_settings.md'
  )
  assert PAGE.read_text() == settings_page.page(), f'run {command}'
