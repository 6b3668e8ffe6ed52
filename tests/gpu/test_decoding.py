"""Decoding on a GPU gives the outputs of a CPU."""

import pytest
import torch

from helpers.decoded_families import DECODED, MODES, decode_peaked
from helpers.families import make_training

pytestmark = pytest.mark.gpu


IN_ALL_MODES = ["captioner", "seq2seq, luong", "table", "lm, lstm", *(name for name in DECODED if "ensemble" in name)]
CASES = [(name, mode) for name in IN_ALL_MODES for mode in MODES]
CASES += [(name, mode) for name in DECODED if name not in IN_ALL_MODES for mode in ("greedy", "beam")]


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_outputs_are_those_of_a_cpu(name: str, mode: str, device: str) -> None:
    training = make_training(name, DECODED)
    expected, found = (decode_peaked(training, MODES[mode], where) for where in ("cpu", device))
    assert torch.equal(found.tokens, expected.tokens)
    torch.testing.assert_close(found[1:], expected[1:], rtol=1e-2, atol=1e-2)
