"""A run is served by the class of its family."""

import shutil
from pathlib import Path

import pytest
import yaml

import attendgen
from attendgen.inference.image_captioner import ImageCaptioner
from attendgen.inference.load import load
from attendgen.inference.text_generator import TextGenerator
from attendgen.inference.translator import Translator
from attendgen.runs.run import Run
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
