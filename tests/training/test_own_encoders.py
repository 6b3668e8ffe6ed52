"""Encoders of a user's own: training with figures, evaluation and captions, whatever their regions are."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from attendgen.hydra_app.app import run_hydra
from attendgen.inference.load import load
from attendgen.visualization.regions import Boxes, Grid
from helpers import tiny_data
from helpers.errors import Command, refusal
from helpers.own_package import NAME, write_config, write_package

CODE = """

from pathlib import Path

import numpy as np

from attendgen.models.encoders.base import GridEncoder
from attendgen.visualization.regions import Boxes, Grid


class Stripes(GridEncoder):
    def __init__(self, size=64):
        super().__init__(nn.Conv2d(3, 6, (8, 16), stride=(8, 16)), 6, size, name="stripes")


class Tokens(nn.Module):
    # not derived from AttendGen's: patches behind a class token, 197 vectors

    name, dim, frozen = "tokens", 6, False
    without_weights = {"file": None}

    def __init__(self, file, size=56):
        super().__init__()
        self.size = size
        self.patches = nn.Conv2d(3, 6, 4, stride=4)
        self.token = nn.Parameter(torch.zeros(1, 1, 6))
        if file is not None:
            self.token.data += float(Path(file).read_text())

    def forward(self, images):
        patches = self.patches(images / 255).flatten(2).transpose(1, 2)
        return torch.cat([self.token.expand(len(images), -1, -1), patches], dim=1)

    def locate(self, images):
        return [Grid(14, 14, leading=1)] * len(images)


class Detector(GridEncoder):
    def __init__(self, size=64):
        super().__init__(nn.Conv2d(3, 6, 16, stride=16), 6, size, name="detector")

    def forward(self, images):
        values = super().forward(images)
        return values, torch.arange(16) < 3 + images[:, 0, 0, 0].long().unsqueeze(1) % 5

    def locate(self, images):
        return [Boxes(np.tile([0.1, 0.2, 0.5, 0.6], (3 + int(image[0, 0, 0]) % 5, 1))) for image in images]


class Silent(Stripes):
    locate = None
"""
KINDS = {"Stripes": Grid(8, 4), "Tokens": Grid(14, 14, 1), "Detector": Boxes, "Silent": None}


@pytest.fixture(autouse=True)
def _package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_package(tmp_path, monkeypatch, trusted=True)
    with (tmp_path / "modules" / f"{NAME}.py").open("a") as file:
        file.write(CODE)
    (tmp_path / "weights.txt").write_text("0.5")


def train_with(kind: str, folder: Path) -> Path:
    text = f"_target_: {NAME}.{kind}\n" + (f"file: {folder}/weights.txt\n" if kind == "Tokens" else "")
    write_config(folder, "model/encoder", "mine", text)
    cached = "null" if kind == "Tokens" else str(folder / "features")
    own = ["model/encoder=mine", f"data.cache={cached}", "callbacks.samples.figures=1", "model.hidden=8"]
    given = tiny_data.arguments("shapes", folder, "trainer=smoke", "decoding.max_length=4", *own)
    run_hydra(["--config-dir", f"{folder}/conf", *given])
    return folder / "run"


@pytest.mark.slow  # precomputed features have any regions in the default tests
@pytest.mark.parametrize("kind", KINDS)
def test_every_command_works_with_any_regions(kind: str, tmp_path: Path, attendgen: Command) -> None:
    folder = train_with(kind, tmp_path)
    assert "left out" not in (folder / "train.log").read_text()
    assert "attention/0" in EventAccumulator(str(folder / "tensorboard")).Reload().Tags()["images"]
    (tmp_path / "weights.txt").unlink()  # they are in the checkpoint
    evaluated = attendgen("evaluate", folder)
    assert evaluated.code == 0, evaluated.err
    image = tiny_data.image(tmp_path / "x.png", "red", (50, 30))
    captioned = attendgen("caption", folder, image, "--out", tmp_path, "--html", tmp_path / "page.html")
    assert captioned.code == 0, captioned.err
    assert (tmp_path / "x_attention.png").is_file()
    (result,) = load(folder).caption(image)
    expected = KINDS[kind]
    if expected is Boxes:
        assert len(result.regions.corners) == 3 + 255 % 5
        assert not result.attention[:, len(result.regions.corners) :].any()
    else:
        assert result.regions == expected
    model = load(folder).model
    if kind == "Tokens":
        assert model.encoder.token.data.abs().max() > 0.4


def test_a_missing_file_of_weights_is_one_line_that_names_the_field(tmp_path: Path) -> None:
    (tmp_path / "weights.txt").unlink()
    message = refusal(train_with, "Tokens", tmp_path)
    assert message == f"model.encoder: {tmp_path}/weights.txt: No such file or directory; check the path"
