"""The attention layer is right, and the experiment trains."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mypaper.attention import DistanceAttention

import attendgen
from attendgen.testing import check_attention

BATCH, TARGET, SOURCE, QUERY, MEMORY = 2, 3, 5, 4, 6


def test_the_nearest_key_has_the_largest_weight() -> None:
    torch.manual_seed(0)
    attention = DistanceAttention(QUERY, MEMORY)
    memory, query = torch.randn(BATCH, SOURCE, MEMORY), torch.randn(BATCH, TARGET, QUERY)
    keys = attention.keys(memory)
    _, alpha = attention(query, keys, memory)
    assert torch.equal(alpha.argmax(-1), torch.cdist(query, keys).argmin(-1))


def test_the_layer_keeps_the_contract_of_attention() -> None:
    check_attention(DistanceAttention, query=QUERY, memory=MEMORY)


def test_the_experiment_trains_and_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))  # where trusted packages are remembered
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    run = tmp_path / "run"
    settings = ["experiment=mypaper", "trainer=smoke", "logger=none", f"hydra.run.dir={run}"]
    subprocess.run([sys.executable, "-m", "attendgen", "train", *settings], check=True, cwd=tmp_path)
    model = attendgen.load(run).model
    assert isinstance(model.decoder.attention, DistanceAttention)
