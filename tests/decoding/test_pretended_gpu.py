"""Decoding on tensors that report to be on a GPU: the outputs of a CPU, for which the host rarely waits."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.facts import FactCheck, rerank_by_facts
from attendgen.decoding.protocol import Decoded
from attendgen.layers.state import map_tensors
from attendgen.utils.special_tokens import EOS
from helpers.decoded_families import DECODED, MODES, bound_waits
from helpers.families import make_training
from helpers.pretended_gpu import Record, pretend, pretend_training, pretended_gpu

SHORT = {name: replace(mode, max_length=3) for name, mode in MODES.items()}
IN_ALL_MODES = ["captioner", "seq2seq, luong", "table", "lm, lstm", *(name for name in DECODED if "ensemble" in name)]
CASES = [(name, mode) for name in IN_ALL_MODES for mode in MODES]
CASES += [(name, "beam") for name in DECODED if name not in IN_ALL_MODES]


def decode_there(
    name: str, config: DecodingConfig, retrieved: list[torch.Tensor] | None = None
) -> tuple[Decoded, Record]:
    """Return what a model on the pretended GPU decodes, and what would happen there."""
    training = make_training(name, DECODED)
    with pretended_gpu() as record:
        task, batch = pretend_training(training)
        task.eval().decoding = config
        if retrieved is not None:
            task.retriever = lambda features: retrieved
        decoded = task.generate(batch)
    return map_tensors(lambda part: part.held, decoded), record


def decode_here(name: str, config: DecodingConfig, retrieved: list[torch.Tensor] | None = None) -> Decoded:
    """Return what the same model decodes on the CPU."""
    task, batch = make_training(name, DECODED)
    task.eval().decoding = config
    if retrieved is not None:
        task.retriever = lambda features: retrieved
    return task.generate(batch)


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_decoding_runs_on_one_device_with_the_outputs_of_a_cpu(name: str, mode: str) -> None:
    found, record = decode_there(name, SHORT[mode])
    expected = decode_here(name, SHORT[mode])
    assert torch.equal(found.tokens, expected.tokens)
    torch.testing.assert_close(tuple(found[1:]), tuple(expected[1:]), rtol=1e-4, atol=1e-5)
    assert record.waits.total() <= bound_waits(name, mode, 4), "one question about so few tokens"


LONG = [*(("captioner", mode) for mode in MODES), ("ensemble of translators", "mbr"), ("lm, lstm", "beam")]


@pytest.mark.parametrize(("name", "mode"), LONG)
def test_the_host_waits_at_most_once_in_four_tokens_of_an_output(name: str, mode: str) -> None:
    decoded, record = decode_there(name, replace(MODES[mode], max_length=13, min_length=13))
    assert decoded.tokens.size(2) == 13
    assert record.waits.total() <= bound_waits(name, mode, 13)


class EndAt:
    """A processor that lets all outputs end after the same number of tokens."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __call__(self, log_probs: torch.Tensor, history: torch.Tensor) -> torch.Tensor:
        is_eos = torch.arange(log_probs.size(1), device=log_probs.device) == EOS
        return log_probs.masked_fill(~is_eos if history.size(1) == self.length - 1 else is_eos, -torch.inf)


@pytest.mark.parametrize("length", [5, 9, 12, 14])
@pytest.mark.parametrize("mode", MODES)
def test_questions_about_outputs_that_end_early_are_as_few(mode: str, length: int) -> None:
    config = replace(MODES[mode], max_length=40, processors=[EndAt(length)], no_repeat_ngram_size=0)
    decoded, record = decode_there("seq2seq, luong", config)
    assert decoded.tokens.size(2) == length
    assert 0 < record.waits.total() <= bound_waits("seq2seq, luong", mode, length)


class Letters:
    """A metric whose mistakes are the letters of a text."""

    def count_mistakes(self, text: str, table: Any) -> int:
        return len(text)


def test_the_host_waits_once_to_count_facts() -> None:
    tokens, scores = torch.tensor([[[7, 8, 3], [7, 3, 0], [0, 0, 0]]]), torch.tensor([[-1.0, -2.0, -torch.inf]])
    check = FactCheck(Letters(), [None], lambda row, ids: "a" * (3 - ids.count(0)))
    with pretended_gpu() as record:
        given = (pretend(part) for part in (tokens, scores, torch.zeros(1, 3, 3), torch.zeros(1, 3, 3, 2)))
        chosen = rerank_by_facts(Decoded(*given), check, 2).tokens
    assert chosen.held.tolist() == [[[7, 3, 0], [7, 8, 3]]]
    assert record.waits.total() == 1
