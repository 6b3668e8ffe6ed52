import itertools

import pytest
import torch

from attendgen.decoding.constraints import constrain, find_repeats

VOCAB = 5


def completes(history: list[int], token: int, n: int) -> bool:
    """Whether the n-gram that `token` ends occurs in `history`."""
    grown = [*history, token]
    grams = [tuple(grown[i : i + n]) for i in range(len(grown) - n + 1)]
    return bool(grams) and grams[-1] in grams[:-1]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_find_repeats_equals_enumeration_of_short_histories(n):
    for length in range(n, 6):
        histories = list(itertools.product(range(3), repeat=length))
        found = find_repeats(torch.tensor(histories), n, VOCAB).tolist()
        assert found == [[completes(list(history), token, n) for token in range(VOCAB)] for history in histories]


def test_without_rules_log_probs_stay_the_same():
    log_probs = torch.randn(3, VOCAB)
    history = torch.randint(0, VOCAB, (3, 4))
    assert constrain(log_probs, history).equal(log_probs)


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_eos_is_suppressed_below_the_minimum_length(length):
    history = torch.zeros(2, length, dtype=torch.long)
    found = constrain(torch.zeros(2, VOCAB), history, suppress_tokens=(0,), eos_id=2, min_length=3)
    shut = [True, False, length + 1 < 3, False, False]
    assert found.isinf().tolist() == [shut, shut]


def test_rules_that_leave_no_token_do_not_apply():
    history = torch.tensor([[3, 4], [3, 3]])
    found = constrain(
        torch.zeros(2, VOCAB), history, suppress_tokens=(0, 1), eos_id=2, min_length=9, no_repeat_ngram_size=1
    )
    assert found.isinf().tolist() == [[True, True, False, False, False], [True, True, True, True, False]]
