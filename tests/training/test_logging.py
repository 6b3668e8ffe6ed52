"""TensorBoard's log, a run without a logger, and profilers' reports."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers.runs import SharedRuns

Train = Callable[..., Path]
FIGURE = "callbacks.samples.figures=1"


def test_tensorboard_holds_losses_scores_samples_and_attention_maps(runs: SharedRuns) -> None:
    folder = runs("toy_chat", FIGURE)
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0, "tensors": 0}).Reload()
    scalars = set(events.Tags()["scalars"])
    assert {"train/loss", "train/gradient_norm", "val/exact_match", "val/bleu", "memory/process_gib"} <= scalars
    assert any("learning_rate" in name for name in scalars)
    assert "attention/0" in events.Tags()["images"]
    assert "samples/text_summary" in events.Tags()["tensors"]


def test_tensorboard_shows_a_streams_continuation_and_its_attention(runs: SharedRuns) -> None:
    folder = runs("novels_lstm", FIGURE, "model.attention_window=8")
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert {"train/loss", "val/bits_per_character"} <= set(events.Tags()["scalars"])
    assert "attention/0" in events.Tags()["images"]
    (shown,) = events.Tensors("samples/text_summary")[-1].tensor_proto.string_val
    assert shown.decode().count(" → ") == 4


@pytest.mark.parametrize("experiment", ["novels", pytest.param("shapes", marks=pytest.mark.slow)])
def test_tensorboard_shows_attention_over_contexts_and_images(runs: SharedRuns, experiment: str) -> None:
    events = EventAccumulator(str(runs(experiment, FIGURE) / "tensorboard")).Reload()
    assert "attention/0" in events.Tags()["images"]
    (shown,) = events.Tensors("samples/text_summary")[-1].tensor_proto.string_val
    assert shown.decode()


def test_training_works_without_a_logger(train: Train) -> None:
    folder = train("toy_chat", "trainer=smoke", "logger=none", "decoding.max_length=4")
    assert (folder / "checkpoints" / "best.ckpt").is_file()
    assert not (folder / "tensorboard").exists()


@pytest.mark.parametrize(
    ("profiler", "word"),
    [
        ("simple", "training_step"),
        pytest.param("advanced", "training_step", marks=pytest.mark.slow),
        pytest.param("pytorch", "aten::", marks=pytest.mark.slow),
    ],
)
def test_a_profiler_writes_into_the_run_directory(train: Train, profiler: str, word: str) -> None:
    short = ["decoding.max_length=3", "callbacks.samples=null", "logger=none"]
    folder = train("toy_chat", "trainer=smoke", f"trainer.profiler={profiler}", *short)
    reports = [path.read_text() for path in (folder / "profiler").glob(f"*{profiler}*.txt")]
    assert any(word in report for report in reports)
