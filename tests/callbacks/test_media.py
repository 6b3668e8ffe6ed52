"""Loggers of the user's own opt in to texts and images; what fails is one warning."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from attendgen.callbacks.guard import Guard
from attendgen.callbacks.media import can_show, show_image, show_page, show_text
from helpers.attention_pages import read_data
from helpers.own_package import NAME, write_package

PIXELS = np.zeros((4, 5, 3), np.uint8)


class Notes:
    def __init__(self) -> None:
        self.shown: list[Any] = []

    def show_text(self, name: str, text: str, step: int) -> None:
        self.shown.append((name, text, step))

    def show_page(self, name: str, page: str, step: int) -> None:
        self.shown.append((name, page, step))


def test_a_logger_of_ones_own_shows_what_it_has_a_method_for(tmp_path: Path) -> None:
    notes, numbers = Notes(), CSVLogger(tmp_path)
    for logger in (notes, numbers):
        show_text(logger, "samples", "a → b", 3)
        show_image(logger, "attention/0", PIXELS, 3)
        show_page(logger, "attention", "<!doctype html>", 3)
    assert notes.shown == [("samples", "a → b", 3), ("attention", "<!doctype html>", 3)]
    assert not list(tmp_path.rglob("*.png"))
    assert can_show(notes)
    assert can_show(TensorBoardLogger(tmp_path))
    assert not can_show(numbers)


def test_errors_are_one_warning_that_names_the_cause(caplog: pytest.LogCaptureFixture) -> None:
    guard = Guard("samples are")
    for message in ("no\nspace", "again"):
        with guard():
            raise OSError(message)
    assert [record.getMessage() for record in caplog.records] == [
        "samples are left out, the training goes on; OSError: no space"
    ]
    with pytest.raises(KeyboardInterrupt), guard():
        raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["plot_alignment", "to_array"])
def test_a_figure_that_fails_does_not_end_a_training(name: str, train, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise ValueError("50 regions are not a grid")

    monkeypatch.setattr(f"attendgen.visualization.plotting.{name}", fail)
    folder = train("toy_chat", "trainer=smoke", "decoding.max_length=4", "callbacks.samples.figures=1")
    assert (folder / "checkpoints" / "best.ckpt").is_file()
    assert len(read_data((folder / "tensorboard" / "attention.html").read_text(encoding="utf-8"))["items"]) == 4
    (line,) = warnings_of(folder)
    message = "samples and their attention are left out, the training goes on; ValueError: 50 regions are not a grid"
    assert line.endswith(f"[WARNING] {message}")


def warnings_of(folder: Path) -> list[str]:
    return [line for line in (folder / "train.log").read_text().splitlines() if "left out" in line]


LOGGER = """

from lightning.pytorch.loggers import CSVLogger


class Notebook(CSVLogger):
    def __init__(self, save_dir, fails=False):
        super().__init__(save_dir, name="notebook", version="")
        self.fails = fails

    def log_hyperparams(self, params):
        if self.fails:
            raise RuntimeError("the server is down")

    def show_text(self, name, text, step):
        with open(self.log_dir + f"/{name}_{step}.txt", "w", encoding="utf-8") as file:
            file.write(text)
"""


@pytest.mark.parametrize("fails", [False, True])
def test_a_logger_of_a_package_gets_samples_and_its_errors_end_no_training(
    fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train
) -> None:
    write_package(tmp_path, monkeypatch, trusted=True)
    with (tmp_path / "modules" / f"{NAME}.py").open("a") as file:
        file.write(LOGGER)
    mine = f"+logger.mine={{_target_:{NAME}.Notebook,save_dir:'${{paths.run}}',fails:{fails}}}"
    folder = train("toy_chat", "trainer=smoke", "logger=none", "decoding.max_length=4", mine)
    assert (folder / "notebook" / "metrics.csv").is_file()
    assert all(" → " in path.read_text(encoding="utf-8") for path in (folder / "notebook").glob("samples_*.txt"))
    assert list((folder / "notebook").glob("samples_*.txt"))
    told = "the hyperparameters are left out, the training goes on; RuntimeError: the server is down"
    assert [line.partition("[WARNING] ")[2] for line in warnings_of(folder)] == ([told] if fails else [])


def test_samples_are_not_decoded_without_a_logger_that_shows_them(train, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("attendgen.callbacks.log_samples.make_samples", fail)
    folder = train("toy_chat", "trainer=smoke", "logger=csv", "decoding.max_length=4")
    assert (folder / "csv" / "hparams.yaml").read_text()
