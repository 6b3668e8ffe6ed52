"""Decoding on tensors that report to be on a GPU: the outputs of a CPU, for which the host rarely waits."""

from dataclasses import replace

import pytest
import torch

from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.protocol import Decoded
from attendgen.layers.state import map_tensors
from helpers.decoded_families import DECODED, MODES
from helpers.families import make_training
from helpers.pretended_gpu import Record, pretend_training, pretended_gpu

SHORT = {name: replace(mode, max_length=3) for name, mode in MODES.items()}
IN_ALL_MODES = ["captioner", "seq2seq, luong", "lm, lstm", *(name for name in DECODED if "ensemble" in name)]
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
    found, _ = decode_there(name, SHORT[mode])
    expected = decode_here(name, SHORT[mode])
    assert torch.equal(found.tokens, expected.tokens)
    torch.testing.assert_close(tuple(found[1:]), tuple(expected[1:]), rtol=1e-4, atol=1e-5)


def count_waits(name: str, mode: str, length: int) -> int:
    """Return how often the host waits while outputs of this length are decoded."""
    decoded, record = decode_there(name, replace(MODES[mode], max_length=length, min_length=length))
    assert decoded.tokens.size(2) == length
    return record.waits.total()


@pytest.mark.parametrize(("name", "mode"), [*(("captioner", mode) for mode in MODES), ("lm, lstm", "beam")])
def test_the_host_waits_at_most_once_in_four_tokens(name: str, mode: str) -> None:
    searches = 2 if mode == "mbr" else 1  # the beam, and its samples
    assert count_waits(name, mode, 16) - count_waits(name, mode, 8) <= searches * 8 / 4
