import numpy as np
import pytest

from mmjax.metrics import translations


def test_chrf_is_the_f_score_of_ngrams_of_characters():
  # Without spaces, 'abc' and 'abd': 2 of 3 characters, 1 of 2 pairs.
  both = (2 / 3 + 1 / 2) / 2
  found = translations.chrf(['ab c'], [['a bd']], max_order=2)
  np.testing.assert_allclose(found, both)
  # 'ab' and 'abcd': precisions 1 and 1, recalls 2/4 and 1/3.
  recall = (1 / 2 + 1 / 3) / 2
  for beta in (1, 2):
    found = translations.chrf(['ab'], [['abcd']], max_order=2, beta=beta)
    expected = (1 + beta**2) * recall / (beta**2 + recall)
    np.testing.assert_allclose(found, expected)


def test_chrf_is_of_the_corpus_and_of_the_best_reference():
  texts = ['Un perro.', 'Unha ra.']
  # The value of `sacrebleu.corpus_chrf`, version 2.6.0.
  found = translations.chrf(texts, [['Un perro gris.'], ['Una rana.']])
  np.testing.assert_allclose(found, 0.42206237047803505)
  both = [['Un perro gris.', 'Un perro.'], ['xyz', 'Unha ra.']]
  assert translations.chrf(texts, both) == 1
  assert translations.chrf([''], [['a']]) == 0
  assert translations.chrf(['xyz'], [['a']]) == 0


@pytest.mark.parametrize('references', [[], [['a'], ['b']], [[]]])
def test_texts_without_references_are_refused(references):
  with pytest.raises(ValueError, match='1 texts have'):
    translations.chrf(['a'], references)
