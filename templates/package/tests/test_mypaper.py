"""The attention layer is right, and the experiment trains."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mypaper.attention import DistanceAttention

import attendgen

BATCH, TARGET, SOURCE, QUERY, MEMORY = 2, 3, 5, 4, 6


def test_the_nearest_key_has_the_largest_weight() -> None:
    torch.manual_seed(0)
    attention = DistanceAttention(QUERY, MEMORY)
    memory, query = torch.randn(BATCH, SOURCE, MEMORY), torch.randn(BATCH, TARGET, QUERY)
    keys = attention.keys(memory)
    context, alpha = attention(query, keys, memory)
    assert torch.equal(alpha.argmax(-1), torch.cdist(query, keys).argmin(-1))
    torch.testing.assert_close(context, alpha @ memory)
    torch.testing.assert_close(alpha.sum(-1), torch.ones(BATCH, TARGET))


def test_padding_has_no_weight() -> None:
    attention = DistanceAttention(QUERY, MEMORY)
    memory, query = torch.randn(BATCH, SOURCE, MEMORY), torch.randn(BATCH, TARGET, QUERY)
    mask = torch.arange(SOURCE) < torch.tensor([[SOURCE], [2]])
    context, alpha = attention(query, attention.keys(memory), memory, mask)
    assert (alpha[1, :, 2:] == 0).all()
    short, _ = attention(query[1:], attention.keys(memory[1:, :2]), memory[1:, :2])
    torch.testing.assert_close(context[1:], short)


def test_the_experiment_trains_and_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))  # where trusted packages are remembered
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    run = tmp_path / "run"
    settings = ["experiment=mypaper", "trainer=smoke", "logger=none", f"hydra.run.dir={run}"]
    subprocess.run([sys.executable, "-m", "attendgen", "train", *settings], check=True, cwd=tmp_path)
    model = attendgen.load(run).model
    assert isinstance(model.decoder.attention, DistanceAttention)
