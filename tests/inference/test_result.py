"""Results are made of decoded tensors."""

import math

import numpy as np
import pytest
import torch

from attendgen.decoding.protocol import Decoded
from attendgen.inference.result import concat_parts, make_results, score_forced
from attendgen.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary("abc", "characters")  # a is 4, b is 5, c is 6
A, B, C, EOS, PAD = 4, 5, 6, 2, 0


def decoded(tokens: list[list[int]], scores: list[float], source: int = 3) -> Decoded:
    """Return outputs of one input, with random attention."""
    ids = torch.tensor([tokens])
    log_probs = -torch.rand(ids.shape) * (ids != PAD)
    return Decoded(ids, torch.tensor([scores]), log_probs, torch.rand(*ids.shape, source))


def test_results_leave_out_padding_and_outputs_that_were_not_found() -> None:
    outputs = decoded([[A, B, EOS], [C, EOS, PAD], [A, A, A], [PAD, PAD, PAD]], [-1.0, -2.0, -math.inf, -3.0])
    found = make_results(outputs, 0, VOCABULARY)
    assert [(result.text, result.tokens, result.score) for result in found] == [
        ("ab", ["a", "b", "<eos>"], -1.0),
        ("c", ["c", "<eos>"], -2.0),
    ]
    np.testing.assert_array_equal(found[1].log_probs, outputs.log_probs[0, 1, :2].numpy())
    np.testing.assert_array_equal(found[1].attention, outputs.attention[0, 1, :2].numpy())


def test_attention_ends_with_the_source() -> None:
    outputs = decoded([[A, B, EOS]], [-1.0], source=5)
    (result,) = make_results(outputs, 0, VOCABULARY, ["x", "y"])
    assert result.source == ["x", "y"]
    np.testing.assert_array_equal(result.attention, outputs.attention[0, 0, :, :2].numpy())


def test_forced_score_is_the_sum_of_log_probabilities() -> None:
    logits, alphas = torch.randn(2, 3, 7), torch.rand(2, 3, 4)
    outputs = torch.tensor([[A, B, EOS], [C, EOS, PAD]])
    forced = score_forced(logits, alphas, outputs)
    for row, ids in enumerate([[A, B, EOS], [C, EOS]]):
        expected = [float(logits[row, t, token].exp() / logits[row, t].exp().sum()) for t, token in enumerate(ids)]
        np.testing.assert_allclose(forced.log_probs[row, 0, : len(ids)], np.log(expected), rtol=1e-4)
        assert float(forced.scores[row, 0]) == pytest.approx(float(np.log(expected).sum()), rel=1e-4)
    assert forced.log_probs[1, 0, 2] == 0
    assert torch.equal(forced.attention[:, 0], alphas)


@pytest.mark.parametrize("first_only", [False, True])
def test_parts_are_concatenated(first_only: bool) -> None:
    parts = [decoded([[A, B]], [-9.0]), decoded([[C]], [-9.0])]
    whole = concat_parts(parts, first_attention_only=first_only)
    assert whole.tokens.tolist() == [[[A, B, C]]]
    assert float(whole.scores[0, 0]) == pytest.approx(sum(float(part.log_probs.sum()) for part in parts))
    assert torch.equal(whole.attention[:, :, :2], parts[0].attention)
    assert torch.equal(whole.attention[:, :, 2:], parts[1].attention * (not first_only))
