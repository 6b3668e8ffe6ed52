"""Asking every few tokens whether outputs have ended changes no output."""

import pytest
import torch

from attendgen.decoding import beam, sampling
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.decode import decode
from attendgen.decoding.waiting import INTERVAL, get_interval
from attendgen.utils.special_tokens import EOS
from helpers.errors import refusal

SETTINGS = {
    "greedy": {},
    "greedy, constrained": {"min_length": 3, "no_repeat_ngram_size": 1},
    "samples": {"temperature": 1.5, "seed": 3, "n_best": 3},
    "beam": {"beam_size": 3, "n_best": 2},
    "beam, penalties": {"beam_size": 4, "length_penalty": 0.7, "coverage_penalty": 0.2, "no_repeat_ngram_size": 2},
    "minimum Bayes risk": {"beam_size": 4, "mbr_samples": 6, "n_best": 2},
}


def test_only_a_cpu_is_read_after_every_token():
    assert get_interval(torch.device("cpu")) == 1
    assert get_interval(torch.device("cuda:0")) == INTERVAL > 1


@pytest.mark.parametrize("interval", [2, INTERVAL, 100])
@pytest.mark.parametrize("max_length", [1, 4, 6])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_outputs_do_not_depend_on_the_interval(make_table, monkeypatch, settings, max_length, interval):
    table = make_table(inputs=20, vocab_size=5, length=max_length - 1)  # a step is given all tokens but the last
    table.log_probs[::2, ..., EOS] += 2.0  # so that some outputs end long before others
    table.log_probs = table.log_probs.log_softmax(dim=-1)
    memory, state = table.encode(range(20))
    settings = {**settings, "min_length": min(settings.get("min_length", 1), max_length)}
    config = DecodingConfig(max_length, **settings)
    expected = decode(table, memory, state, config)
    for module in (beam, sampling):
        monkeypatch.setattr(module, "get_interval", lambda _: interval)
    found = decode(table, memory, state, config)
    assert found.tokens.equal(expected.tokens)
    for left, right in zip(found, expected, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=0)


class LateNaN:
    """A processor that returns NaN from the third token on."""

    def __call__(self, log_probs: torch.Tensor, history: torch.Tensor) -> torch.Tensor:
        return log_probs + torch.nan if history.size(1) >= 2 else log_probs


@pytest.mark.parametrize("settings", [{}, {"temperature": 1.0}, {"beam_size": 2}], ids=str)
@pytest.mark.parametrize("max_length", [3, 4])
def test_results_that_are_not_log_probabilities_are_found_at_the_next_question(
    make_table, monkeypatch, settings, max_length
):
    for module in (beam, sampling):
        monkeypatch.setattr(module, "get_interval", lambda _: 4)
    table = make_table(inputs=5)
    config = DecodingConfig(max_length, min_length=3, processors=[LateNaN()], **settings)
    assert "LateNaN returned NaN" in refusal(decode, table, *table.encode(range(5)), config)
