"""The file of a split's attention against the outputs of the model itself."""

from pathlib import Path

import numpy as np
import pytest

from attendgen.evaluation.recorder import AttentionSpool
from attendgen.inference.load import load
from attendgen.inference.result import Result
from attendgen.utils.resources import bundled_file
from helpers.errors import Command, assert_mistake
from helpers.runs import SharedRuns


def test_the_file_holds_what_the_model_generates(attendgen: Command, runs: SharedRuns, tmp_path: Path) -> None:
    outcome = attendgen(
        "evaluate", runs("toy_chat"), "--out", tmp_path, "--save-attention", tmp_path / "a.npz", "decoding.beam_size=2"
    )
    assert outcome.code == 0, outcome.err
    data = np.load(tmp_path / "a.npz", allow_pickle=False)
    sources = [line.split("\t")[0] for line in Path(bundled_file("toy_chat.tsv")).read_text("utf-8").splitlines()]
    assert data["inputs"].tolist() == sources
    assert data["index"].tolist() == list(range(len(sources)))
    assert data["outputs"].tolist() == (tmp_path / "outputs_val.beam2.txt").read_text("utf-8").splitlines()
    model = load(runs("toy_chat"))
    for i in (0, 7, len(sources) - 1):
        expected = model.generate(sources[i], beam_size=2)[0]
        begin, end = data["token_offsets"][i : i + 2]
        first, last = data["attention_offsets"][i : i + 2]
        read, stop = data["source_offsets"][i : i + 2]
        assert data["vocabulary"][data["tokens"][begin:end]].tolist() == expected.tokens
        assert data["vocabulary"][data["sources"][read:stop]].tolist() == expected.source
        np.testing.assert_allclose(data["log_probs"][begin:end], expected.log_probs, atol=1e-5)
        weights = data["attention"][first:last].reshape(end - begin, -1)
        np.testing.assert_allclose(weights, expected.attention, atol=1e-5)
        assert data["scores"][i] == pytest.approx(expected.score, abs=1e-4)


@pytest.mark.slow
def test_captions_attend_to_regions(attendgen: Command, runs: SharedRuns, tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    assert attendgen("evaluate", runs("flickr8k_soft"), "--out", tmp_path, "--save-attention", file).code == 0
    data = np.load(file, allow_pickle=False)
    assert data["inputs"].tolist() == ["purple.jpg", "orange.jpg"]
    tokens, weights = np.diff(data["token_offsets"]), np.diff(data["attention_offsets"])
    assert (weights == 4 * tokens).all(), "2x2 regions"
    np.testing.assert_allclose(data["attention"].reshape(-1, 4).sum(axis=1), 1, rtol=1e-4)
    assert not data["sources"].size


def test_outputs_of_any_length_come_back_in_the_order_of_the_examples(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    results = {}
    for index, (length, width) in {3: (2, 4), 0: (5, 1), 2: (0, 3), 1: (1, 0)}.items():
        weights = random.random((length, width), dtype=np.float32)
        tokens, source = [f"t{i}" for i in range(length)], [f"s{i}" for i in range(width)]
        log_probs = random.random(length, dtype=np.float32)
        results[index] = Result(f"text {index}", tokens, -1.0 * index, log_probs, source, weights)
    with AttentionSpool() as spool:
        for index, result in results.items():
            spool.add(index, result)
        spool.write(tmp_path / "a.npz", [10, 11, 12, 13])
    data = np.load(tmp_path / "a.npz", allow_pickle=False)
    assert data["inputs"].tolist() == ["10", "11", "12", "13"]
    for i, (_, result) in enumerate(sorted(results.items())):
        for name, offsets, values in (
            ("tokens", "token_offsets", result.tokens),
            ("sources", "source_offsets", result.source),
        ):
            begin, end = data[offsets][i : i + 2]
            assert data["vocabulary"][data[name][begin:end]].tolist() == values
        begin, end = data["attention_offsets"][i : i + 2]
        np.testing.assert_array_equal(data["attention"][begin:end], result.attention.ravel())
    assert list(tmp_path.iterdir()) == [tmp_path / "a.npz"]


def test_language_models_have_no_outputs_to_save(attendgen: Command, runs: SharedRuns, tmp_path: Path) -> None:
    outcome = attendgen("evaluate", runs("novels"), "--out", tmp_path, "--save-attention", tmp_path / "a.npz")
    assert_mistake(outcome, "--save-attention", "language model")
    assert not (tmp_path / "a.npz").exists()
