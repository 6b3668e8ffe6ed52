"""The number of kernels that a training step launches on a GPU, where each costs the host as much as any other."""

from functools import partial

import pytest
import torch
from torch import nn

from helpers.families import FAMILIES, Family, Training, make_training
from helpers.launches import count_launches

# 16 words per text; the memory of images is so large that the decoder multiplies it with its weights once
IMAGES = {"features": 64, "loss_reduction": "per_caption"}
BOUNDS = {
    "captioner": 900,
    "captioner, moving baseline": 1200,
    "captioner, leave one out": 1200,
    "seq2seq, bahdanau": 800,
    "seq2seq, luong": 200,
    "seq2seq, luong, input feeding": 600,
    "table": 2500,  # an attention in two levels, twice per word
    "table, joint copying": 1100,
    "table, soft baseline": 2400,
    "lm, lstm": 100,
    "lm, windows": 100,
    "lm, attention window": 130,
    "lm, context": 200,
}


@pytest.mark.parametrize("name", BOUNDS)
def test_a_training_step_launches_few_kernels(name: str) -> None:
    family: Family = partial(FAMILIES[name], **(IMAGES if "captioner" in name else {}))
    launches = count_launches(make_training(name, {name: family}, length=16, dropout=0.3))
    assert 10 < launches.total() <= BOUNDS[name], launches.most_common(20)


class Product(nn.Module):
    """A task whose step has one product, one sum, and a view."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 3))

    def training_step(self, batch: torch.Tensor, batch_index: int) -> torch.Tensor:
        return (batch.T @ self.weight).sum()


def test_operations_are_counted_and_views_are_not() -> None:
    counts = count_launches(Training(Product(), torch.ones(3, 3)), None)  # type: ignore[arg-type]
    assert counts == {"mm": 2, "sum": 1, "ones_like": 1}


def test_an_lstm_counts_once_forward_and_once_backward() -> None:
    counts = count_launches(make_training("lm, lstm", length=16))
    assert counts["lstm"] == counts["lstm backward"] == 1
