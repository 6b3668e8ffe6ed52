"""ROUGE-L against pycocoevalcap, which has a table of lengths."""

import random

import pytest
from pycocoevalcap.rouge.rouge import Rouge

from attendgen.metrics.rouge import score_rouge_l


def test_equals_pycocoevalcap():
    draw = random.Random(0)
    texts = [" ".join(draw.choices("abcde", k=draw.randint(0, 90))) for _ in range(40)]
    for output in texts:
        references = draw.sample(texts, 3)
        assert score_rouge_l(output, references) == pytest.approx(Rouge().calc_score([output], references))
