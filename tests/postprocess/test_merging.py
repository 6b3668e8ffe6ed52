"""Models merged to one: their weights are the mean, and what cannot be merged is named."""

from pathlib import Path

import numpy as np
import pytest
import torch

from attendgen.data.captions.features import fingerprint
from attendgen.inference.load import load
from attendgen.losses.score_function import MovingAverageBaseline
from attendgen.postprocess.merging import mean, merge
from attendgen.runs.run import Run
from attendgen.utils.errors import UserError
from helpers import tiny_data

RUNS = {
    "soft": ["flickr8k_soft"],
    "soft, another seed": ["flickr8k_soft", "seed=2"],
    "hard": ["flickr8k_soft", "task/estimator=moving_baseline", "task.doubly_stochastic_weight=0.0"],
    "soft, wide": ["flickr8k_soft", "model.hidden=12"],
    "soft, no gate": ["flickr8k_soft", "model.context_gate=none"],
    "soft, two layers": ["flickr8k_soft", "model.init_state_layers=2"],
    "chat": ["toy_chat"],
    "chat, other symbols": ["toy_chat_letters", "epochs=1"],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tiny.Runs:
    return tiny.Runs(tmp_path_factory.mktemp("runs"), RUNS)


def weights(path: Path) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in load(path).task.model.state_dict().items()}


def test_a_merged_run_is_the_mean_of_others(run, tmp_path):
    names = ["soft", "soft, another seed"]
    shares = merge([str(run(name)) for name in names], tmp_path / "one", [3.0, 1.0])
    assert shares == [0.75, 0.25]
    first, second = (weights(run(name)) for name in names)
    merged = weights(tmp_path / "one")
    assert merged.keys() == first.keys()
    moved = 0
    for name, value in merged.items():
        if name.startswith("encoder."):
            continue
        expected = 0.75 * first[name].astype(np.float64) + 0.25 * second[name]
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-9)
        moved += not np.array_equal(first[name], value)
    assert moved > 10
    picture = tiny_data.image(tmp_path / "red.jpg", "red")
    assert load(tmp_path / "one").caption(picture)[0].tokens


def test_the_same_weights_stay_bit_for_bit(run, tmp_path):
    merge([str(run("soft"))] * 3, tmp_path / "same", [0.3, 0.3, 0.1])
    before, after = weights(run("soft")), weights(tmp_path / "same")
    assert all(np.array_equal(before[name], after[name]) for name in before)
    encoders = [load(path).task.model.encoder for path in (run("soft"), tmp_path / "same")]
    assert fingerprint(encoders[0]) == fingerprint(encoders[1])  # its cached features are found


def test_whole_numbers_are_the_first_models():
    states = [{"count": torch.tensor(count), "weight": torch.tensor([value])} for count, value in ((3, 1.0), (6, 3.0))]
    merged = mean(states, [0.5, 0.5])
    assert merged["count"].item() == 3
    assert merged["weight"].item() == 2.0
    assert mean(states, [1.5, -0.5])["weight"].item() == 0.0


def test_the_first_ones_settings_are_kept(run, tmp_path):
    merge([str(run("soft, another seed")), str(run("soft"))], tmp_path / "one")
    merged, first = (Run.find(path).config for path in (tmp_path / "one", run("soft, another seed")))
    assert merged.seed == first.seed == 2
    assert merged.model == first.model
    assert merged.data == first.data


def test_a_hard_model_and_a_soft_one_make_a_hard_one(run, tmp_path):
    merge([str(run("hard")), str(run("soft"))], tmp_path / "one")
    estimator = Run.find(tmp_path / "one").build().estimator
    assert isinstance(estimator, MovingAverageBaseline)
    assert estimator.state_dict()["baseline"].item() == 0.0
    merged, hard, soft = (weights(path) for path in (tmp_path / "one", run("hard"), run("soft")))
    for name, value in hard.items():
        np.testing.assert_allclose(merged[name], (value + soft[name]) / 2, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["soft"], ["two runs"]),
        (["soft", "chat"], ["chat", "task", "Seq2SeqTask"]),
        (["chat", "chat, other symbols"], ["other symbols", "vocabulary"]),
        (["soft", "soft, wide"], ["wide", "first_hidden.weight is [12,", "in", "[8,"]),
        (["soft", "soft, no gate"], ["no gate", "decoder.gate.weight is missing"]),
        (["soft", "soft, two layers"], ["two layers", "first_hidden.weight is missing"]),
    ],
)
def test_what_cannot_be_merged_is_named(run, tmp_path, names, words):
    with pytest.raises(UserError) as caught:
        merge([str(run(name)) for name in names], tmp_path / "one")
    for word in words:
        assert word in str(caught.value)
    assert not (tmp_path / "one").exists()


@pytest.mark.parametrize("given", [[1.0], [1.0, -1.0], [1.0, float("nan")], [0.0, 0.0]])
def test_weights_that_make_no_mean_are_refused(run, tmp_path, given):
    with pytest.raises(UserError, match="--weights"):
        merge([str(run("soft"))] * 2, tmp_path / "one", given)
    assert not (tmp_path / "one").exists()
