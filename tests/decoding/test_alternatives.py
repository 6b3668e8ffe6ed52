"""The likeliest tokens at each step belong to the outputs of which they are the alternatives."""

from typing import Any

import pytest
import torch

from attendgen.decoding.alternatives import find_alternatives, take_likeliest
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.decode import decode
from attendgen.utils.special_tokens import PAD, SOS
from helpers.families import FAMILIES


@pytest.mark.parametrize("name", ["captioner", "seq2seq, luong", "captioner, transformer"])
def test_all_alternatives_hold_the_log_probability_of_each_token_of_each_hypothesis(name: str) -> None:
    torch.manual_seed(1)
    task, batch = FAMILIES[name]()
    model: Any = task.eval().model
    with torch.no_grad():
        memory, state = model.encode(batch.source if hasattr(batch, "source") else batch.images)
        config = DecodingConfig(max_length=6, temperature=1.0, n_best=3, seed=2)
        outputs = decode(model, memory, state, config)
    size = len(task.vocabulary.target if hasattr(task.vocabulary, "target") else task.vocabulary)
    found = find_alternatives(model, memory, state, outputs.tokens, size)
    assert found is not None
    assert found.tokens.shape == (*outputs.tokens.shape, size - 2)
    assert not {PAD, SOS} & set(found.tokens.flatten().tolist())
    assert bool((found.log_probs.diff(dim=-1) <= 0).all())
    mask = outputs.tokens != PAD
    chosen = found.log_probs[found.tokens == outputs.tokens.unsqueeze(-1)]
    torch.testing.assert_close(chosen, outputs.log_probs[mask], atol=1e-5, rtol=1e-4)


class Unread:
    def step(self, tokens: torch.Tensor, state: Any, memory: Any) -> Any:
        raise AssertionError


def test_nothing_is_read_unless_alternatives_are_asked_for() -> None:
    assert find_alternatives(Unread(), None, torch.zeros(1, 2), torch.zeros(1, 1, 1, dtype=torch.long), 0) is None
    assert take_likeliest(torch.zeros(2, 5), 0, ()) is None


def test_the_likeliest_tokens_are_sorted_and_leave_out_those_that_no_output_may_hold() -> None:
    log_probs = torch.tensor([[0.1, 0.4, 0.2, 0.3]]).log()
    found = take_likeliest(log_probs, 2, (1,))
    assert found is not None
    assert found.tokens.tolist() == [[3, 2]]
    torch.testing.assert_close(found.log_probs.exp(), torch.tensor([[0.3, 0.2]]))
