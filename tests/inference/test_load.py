"""A run is served by the class of its family."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml

import attendgen
from attendgen.inference.image_captioner import ImageCaptioner
from attendgen.inference.load import load
from attendgen.inference.text_generator import TextGenerator
from attendgen.inference.translator import Translator
from attendgen.runs.run import Run
from attendgen.utils.devices import find_device
from helpers.errors import refusal
from helpers.runs import SharedRuns

FAMILIES = {"toy_chat": Translator, "novels": TextGenerator, "flickr8k_soft": ImageCaptioner}


@pytest.mark.parametrize("experiment", FAMILIES)
def test_family_chooses_the_class(runs: SharedRuns, experiment: str) -> None:
    path = runs(experiment)
    for run in (path, str(path), path / "checkpoints" / "best.ckpt", Run.find(path)):
        model = load(run)
        assert type(model) is FAMILIES[experiment]
        assert not model.model.training
        assert str(model.device) == "cpu"


@pytest.mark.parametrize("experiment", FAMILIES)
def test_bfloat16_converts_all_weights_but_an_encoder_of_images(runs: SharedRuns, experiment: str) -> None:
    model = load(runs(experiment), precision="bf16").model
    image_encoder = getattr(model, "encoder", None) if experiment == "flickr8k_soft" else None
    features = set() if image_encoder is None else set(image_encoder.parameters())
    for weight in model.parameters():
        assert weight.dtype == (torch.float32 if weight in features else torch.bfloat16)


def test_unknown_devices_and_precisions_are_refused(runs: SharedRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    run = runs("toy_chat")
    assert "--device tpu: unknown; choose auto, cpu, cuda or cuda:N" in refusal(load, run, device="tpu")
    assert "--device cuda:x: unknown" in refusal(load, run, device="cuda:x")
    assert "--precision 16: unknown; choose 32 or bf16" in refusal(load, run, precision="16")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert str(load(run, device="auto").device) == "cpu"
    assert "--device cuda: PyTorch finds no GPU; use cpu or auto" in refusal(load, run, device="cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert "--device cuda:2: there are 2 GPUs" in refusal(load, run, device="cuda:2")
    assert find_device("auto") == find_device("cuda") == torch.device("cuda:0")
    assert find_device(torch.device("cuda:1")) == torch.device("cuda:1")


def test_package_offers_load() -> None:
    assert attendgen.load is load


def test_unknown_or_missing_family_is_refused(runs: SharedRuns, tmp_path: Path) -> None:
    run = shutil.copytree(runs("toy_chat"), tmp_path / "run")
    config = yaml.safe_load((run / "config.yaml").read_text())
    for change, message in (
        ({"family": "poetry"}, "family=poetry: unknown"),
        ({"family": None}, "'family' is missing"),
    ):
        (run / "config.yaml").write_text(yaml.safe_dump({**config, **change}))
        assert message in refusal(load, run)


def test_name_of_nothing_is_refused() -> None:
    assert "nowhere: no such run directory, checkpoint or bundled model" in refusal(load, "nowhere")
