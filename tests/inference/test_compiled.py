"""Trained models of every family replay their decoding steps if they are loaded so."""

from typing import Any

import pytest
import torch

from attendgen.decoding.graphs import DecodingGraphs
from attendgen.inference import load as loading
from attendgen.inference.load import load
from helpers import tiny_data
from helpers.errors import refusal
from helpers.rerun import RerunRecorder
from helpers.runs import SharedRuns

OUTPUTS = {
    "toy_chat": lambda model, _: model.generate_all(["tu vas bien ?", "bonjour"], beam_size=3, max_length=6),
    "novels": lambda model, _: model.generate_all(["It was the", "It was the best"], max_length=30, seed=1),
    "toy_weather": lambda model, _: model.generate_all(["city[Turin]", "city[Lyon]"], beam_size=3, max_length=6),
    "flickr8k_soft": lambda model, image: list(model.caption_all([image, image], beam_size=3, max_length=6)),
}


@pytest.mark.parametrize("experiment", OUTPUTS)
def test_every_family_replays_its_steps(
    runs: SharedRuns, experiment: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = RerunRecorder()
    monkeypatch.setattr(loading, "require_gpu", lambda *_: None)
    monkeypatch.setattr(loading, "DecodingGraphs", lambda: DecodingGraphs(lambda: recorder))
    image = tiny_data.image(tmp_path / "red.png", "red")
    expected, found = (OUTPUTS[experiment](load(runs(experiment), compile=choice), image) for choice in (False, True))
    assert recorder.replayed > 0
    assert [[one.text for one in several] for several in found] == [[one.text for one in some] for some in expected]


def test_compiled_decoding_needs_a_gpu(runs: SharedRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for device in ("cpu", "auto"):
        message = refusal(load, runs("toy_chat"), device=device, compile=True)
        assert "--compile: needs a GPU; use --device cuda, or leave it out" in message
