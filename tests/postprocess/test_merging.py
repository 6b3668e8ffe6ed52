"""Merged models: their weights are the mean, and what cannot be merged is named."""

from pathlib import Path

import numpy as np
import pytest
import torch

from attendgen.data.captions.features import fingerprint
from attendgen.inference.load import load
from attendgen.losses.score_function import MovingAverageBaseline
from attendgen.postprocess.fit import open_task
from attendgen.postprocess.merging import average_states, merge
from attendgen.runs.run import Run
from helpers import tiny_data
from helpers.errors import refusal
from helpers.runs import SharedRuns

SOFT, SECOND_SEED = ("flickr8k_soft",), ("flickr8k_soft", "seed=2")
HARD = ("flickr8k_soft", "task=captioning_hard", "task.doubly_stochastic_weight=0.0")


def read_weights(path: Path) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in load(path).model.state_dict().items()}


def test_merged_run_is_the_weighted_mean(runs: SharedRuns, tmp_path: Path) -> None:
    members = [runs(*SOFT), runs(*SECOND_SEED)]
    assert merge([str(member) for member in members], tmp_path / "one", [3.0, 1.0]) == [0.75, 0.25]
    first, second = (read_weights(member) for member in members)
    merged = read_weights(tmp_path / "one")
    assert merged.keys() == first.keys()
    moved = 0
    for name, value in merged.items():
        if name.startswith("encoder."):
            continue
        expected = 0.75 * first[name].astype(np.float64) + 0.25 * second[name]
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-9)
        moved += not np.array_equal(first[name], value)
    assert moved > 10
    image = tiny_data.image(tmp_path / "red.jpg", "red")
    assert load(tmp_path / "one").caption(image)[0].tokens


def test_equal_weights_are_copied_exactly(runs: SharedRuns, tmp_path: Path) -> None:
    merge([str(runs(*SOFT))] * 3, tmp_path / "same", [0.3, 0.3, 0.1])
    before, after = read_weights(runs(*SOFT)), read_weights(tmp_path / "same")
    assert all(np.array_equal(before[name], after[name]) for name in before)
    encoders = [load(path).model.encoder for path in (runs(*SOFT), tmp_path / "same")]
    assert fingerprint(encoders[0]) == fingerprint(encoders[1])  # its cached features are found


def test_integers_are_copied_from_the_first_model() -> None:
    states = [{"count": torch.tensor(count), "weight": torch.tensor([value])} for count, value in ((3, 1.0), (6, 3.0))]
    merged = average_states(states, [0.5, 0.5])
    assert merged["count"].item() == 3
    assert merged["weight"].item() == 2.0
    assert average_states(states, [1.5, -0.5])["weight"].item() == 0.0


def test_settings_are_those_of_the_first_run(runs: SharedRuns, tmp_path: Path) -> None:
    merge([str(runs(*SECOND_SEED)), str(runs(*SOFT))], tmp_path / "one")
    merged, first = (Run.find(path).config for path in (tmp_path / "one", runs(*SECOND_SEED)))
    assert merged.seed == first.seed == 2
    assert merged.model == first.model
    assert merged.data == first.data


def test_hard_and_soft_models_make_a_hard_one(runs: SharedRuns, tmp_path: Path) -> None:
    merge([str(runs(*HARD)), str(runs(*SOFT))], tmp_path / "one")
    run = Run.find(tmp_path / "one")
    task, _ = open_task(run, run.config, run.load_model(), "val")
    assert isinstance(task.estimator, MovingAverageBaseline)
    assert task.estimator.state_dict()["baseline"].item() == 0.0
    merged, hard, soft = (read_weights(path) for path in (tmp_path / "one", runs(*HARD), runs(*SOFT)))
    for name, value in hard.items():
        np.testing.assert_allclose(merged[name], (value + soft[name]) / 2, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.hidden=12", ["hidden=12: model: first_hidden.weight is [12,", "in", "[8,"]),
        pytest.param(
            "model.context_gate=none",
            ["gate=none: model: decoder.context_gate.weight is missing"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "model.init_state_layers=2", ["layers=2: model: first_hidden.weight is missing"], marks=pytest.mark.slow
        ),
    ],
)
def test_models_of_other_shapes_are_named(runs: SharedRuns, tmp_path: Path, override: str, words: list[str]) -> None:
    members = [str(runs(*SOFT)), str(runs(*SOFT, override))]
    message = refusal(merge, members, tmp_path / "one")
    for word in words:
        assert word in message
    assert not (tmp_path / "one").exists()


@pytest.mark.parametrize("given", [[1.0], [1.0, -1.0], [1.0, float("nan")], [0.0, 0.0]])
def test_weights_without_a_mean_are_refused(runs: SharedRuns, tmp_path: Path, given: list[float]) -> None:
    assert "--weights" in refusal(merge, [str(runs(*SOFT))] * 2, tmp_path / "one", given)
    assert not (tmp_path / "one").exists()
