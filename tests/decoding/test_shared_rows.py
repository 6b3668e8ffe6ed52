"""Rows of one input that are equal so far share their steps."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.decode import decode
from attendgen.decoding.shared_rows import find_equal
from helpers.decoded_families import DECODED
from helpers.families import make_captioner, make_training

SAMPLES = 40
FAMILIES = ["captioner", "captioner, transformer", "seq2seq, luong", "lm, lstm", "table"]


class CountedModel:
    """A model that notes for how many rows its steps are computed.

    Args:
        draws: draw a random number in each step, which has no influence.
    """

    def __init__(self, model: Any, draws: bool) -> None:
        self.model, self.draws = model, draws
        self.rows: list[int] = []

    def step(self, tokens: Tensor, state: Any, memory: Any) -> Any:
        self.rows.append(len(tokens))
        if self.draws:
            torch.rand(())
        return self.model.step(tokens, state, memory)


@torch.no_grad()
def sample(name: str, draws: bool) -> tuple[Any, list[int]]:
    """Return the samples of a model with enlarged weights, whose samples begin alike, and its numbers of rows."""
    task, batch = make_training(name, DECODED)
    task.eval()
    for weight in task.parameters():
        weight.mul_(3)
    models: list[CountedModel] = []

    def own(model: Any, *rest: Any, **text: Any) -> Any:
        models.append(CountedModel(model, draws))
        config = DecodingConfig(max_length=6, min_length=6, temperature=0.7, n_best=SAMPLES, seed=1)
        return decode(models[0], *rest[:2], config, **text)

    task.decoding = own
    return task.generate(batch), models[0].rows


@pytest.mark.parametrize("name", FAMILIES)
def test_samples_are_those_of_rows_that_are_computed_one_by_one(name: str) -> None:
    (found, fewer), (expected, rows) = sample(name, draws=False), sample(name, draws=True)
    inputs = len(expected.tokens)
    assert rows == [inputs, *[inputs * SAMPLES] * 6], "each row draws a number of its own"
    assert fewer[0] == inputs
    assert fewer[1] < inputs * SAMPLES / 2
    assert fewer == sorted(fewer)
    assert found.tokens.equal(expected.tokens)
    torch.testing.assert_close(tuple(found[1:]), tuple(expected[1:]), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_each_sample_attends_to_locations_of_its_own() -> None:
    task, batch = make_captioner(inference_attention="sample")
    task.eval().decoding = DecodingConfig(max_length=4, min_length=4, temperature=1.0, n_best=SAMPLES, seed=1)
    first = task.generate(batch).attention[:, :, 0]
    assert first.sum(dim=2).eq(1).all()
    assert first.amax(dim=1).sum(dim=1).gt(1).all(), "samples of one image differ in the first location"


@pytest.mark.parametrize("seed", range(3))
def test_equal_rows_have_one_place(seed: int) -> None:
    draw = partial(torch.randint, generator=torch.Generator().manual_seed(seed))
    kinds = draw(3, (5, 12)) + 10 * torch.arange(5).unsqueeze(1)
    kinds[2] = 20
    groups = find_equal(kinds.flatten(), 12)
    assert groups is not None
    first, places = groups
    assert kinds.flatten()[first][places].equal(kinds.flatten())
    assert len(first) == 5 * max(len(set(row.tolist())) for row in kinds)
    assert (first // 12).equal(torch.arange(5).repeat_interleave(len(first) // 5)), "places of an input hold its rows"
    for row, own in zip(kinds, places.view(5, 12), strict=True):
        assert len(set(own.tolist())) == len(set(row.tolist()))


def test_rows_that_nearly_all_differ_are_not_grouped() -> None:
    assert find_equal(torch.arange(24), 12) is None
