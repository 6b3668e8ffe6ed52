"""`generate` and `caption` take every setting of decoding as decoding.NAME=VALUE."""

from pathlib import Path

import pytest

from attendgen.evaluation.evaluate import evaluate
from attendgen.hydra_app.app import run_hydra
from attendgen.inference.load import load
from attendgen.inference.text_generator import TextGenerator
from attendgen.inference.translator import Translator
from attendgen.runs.run import Run
from helpers import tiny_data
from helpers.errors import Command, assert_mistake
from helpers.own_package import write_config, write_package
from helpers.runs import SharedRuns

PENALTY = "decoding.processors=[{_target_: attendgen.decoding.RepetitionPenalty, penalty: 1000000.0}]"


def test_a_setting_equals_its_option(attendgen: Command, runs: SharedRuns) -> None:
    run = runs("toy_chat")
    options = attendgen("generate", run, "Tu vas", "--beam", "3", "--n-best", "2", "--length-penalty", "0.5")
    settings = (
        "decoding.beam_size=3",
        "decoding.n_best=2",
        "decoding.length_penalty=0.5",
        "decoding.drop_finished=false",
    )
    found = attendgen("generate", run, settings[0], "Tu vas", *settings[1:])
    assert found.code == 0, found.err
    assert found.out == options.out
    plain = attendgen("generate", "toy-chat", "quoi de neuf ?", "--max-length", "60").out
    assert attendgen("generate", "toy-chat", "quoi de neuf ?", "decoding.max_length=60", PENALTY).out != plain
    assert attendgen("generate", "toy-chat", "quoi de neuf ?", "decoding.max_length=60").out == plain


def test_null_clears_a_setting_of_the_run(attendgen: Command, runs: SharedRuns) -> None:
    run = runs("toy_chat", "decoding.temperature=0.9", "decoding.top_k=1", "decoding.seed=1")
    certain = attendgen("generate", run, "Tu vas", "--max-length", "9").out
    free = attendgen("generate", run, "Tu vas", "--max-length", "9", "decoding.top_k=null")
    assert free.code == 0, free.err
    assert free.out != certain
    assert_mistake(attendgen("generate", run, "Tu vas", "decoding.tops=null"), "decoding.tops: no such setting")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("decoding.beam=3",), "decoding.beam: no such setting; choose one of max_length"),
        (("decoding.top_p=2.0",), "decoding.top_p=2.0"),
        (("--beam", "3", "decoding.beam_size=2"), "decoding.beam_size: given twice"),
        (("decoding.top_k=[",), "decoding.top_k=["),
        (("decoding.processors.penalty=2",), "decoding.processors.penalty: "),
        (("decoding.max_length.x=2",), "decoding.max_length.x: the run's decoding has no part 'max_length'"),
        (("decoding.processors=[{_target_: nowhere.X}]",), "nowhere"),
        (
            ("--score", "oui", "decoding.beam_size=2"),
            "--score: a given output is not decoded; leave decoding.beam_size",
        ),
    ],
)
def test_a_wrong_setting_is_one_line(attendgen: Command, runs: SharedRuns, settings: tuple, message: str) -> None:
    assert_mistake(attendgen("generate", runs("toy_chat"), "Tu vas", *settings), message)


def test_captions_take_settings(
    attendgen: Command, runs: SharedRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run, image = runs("flickr8k_soft"), tiny_data.image(tmp_path / "x.png", "red")
    options = attendgen("caption", run, image, "--beam", "3", "--n-best", "3")
    settings = attendgen("caption", run, image, "decoding.beam_size=3", "decoding.n_best=3")
    assert settings.code == 0, settings.err
    assert settings.out == options.out
    assert_mistake(attendgen("caption", run, image, "decoding.beam=3"), "decoding.beam: no such setting")
    assert_mistake(attendgen("caption", run, "decoding.beam_size=3"), "caption: no image")


OWN = "_target_: mypaper.Counting\ntimes: 4\nscorer:\n  _target_: mypaper.Weight\n  weight: 1.5\n"


def test_search_of_ones_own_takes_its_settings_and_serves_every_command(
    attendgen: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Generating asks it as often as evaluating: once for a batch of as many rows."""
    write_package(tmp_path, monkeypatch, trusted=True)
    write_config(tmp_path, "decoding", "own", OWN)
    given = tiny_data.arguments("toy_chat", tmp_path, "trainer=smoke", "decoding=own", "callbacks.samples=null")
    given = [argument for argument in given if not argument.startswith("decoding.max_length")]
    run_hydra(["--config-dir", f"{tmp_path}/conf", *given])
    import mypaper  # of the temporary folder

    run = Run.find(tmp_path / "run")
    mypaper.Counting.calls.clear()
    evaluate(run, overrides=["data.batch_size=19"])
    evaluated = list(mypaper.Counting.calls)
    assert evaluated == [(19, 4, 1.5)]
    model = load(tmp_path / "run")
    assert isinstance(model, Translator)
    mypaper.Counting.calls.clear()
    model.generate_all(["tu vas bien ?"] * 19)
    assert mypaper.Counting.calls == evaluated
    mypaper.Counting.calls.clear()
    done = attendgen("generate", tmp_path / "run", "salut", "decoding.times=2", "decoding.scorer.weight=0.5")
    assert done.code == 0, done.err
    assert mypaper.Counting.calls == [(1, 2, 0.5)]
    told = attendgen("generate", tmp_path / "run", "salut", "decoding.beam_size=2")
    assert_mistake(told, "decoding: mypaper.Counting has no setting 'beam_size'")


class Recorder:
    """Keeps each history that it is given."""

    def __init__(self) -> None:
        self.histories: list[list[list[int]]] = []

    def __call__(self, log_probs, history):
        self.histories.append(history.tolist())
        return log_probs


@pytest.mark.parametrize("experiment", ["novels", "novels_lstm"])
def test_the_history_of_a_text_is_all_that_was_written(runs: SharedRuns, experiment: str) -> None:
    """A model of windows writes it in parts."""
    model = load(runs(experiment))
    assert isinstance(model, TextGenerator)
    recorder = Recorder()
    results = model.generate("It was", max_length=40, temperature=1.0, seed=1, n_best=2, processors=[recorder])
    written = sorted([model.vocabulary.ids[token] for token in result.tokens] for result in results)
    assert [len(histories[0]) for histories in recorder.histories] == list(range(40))
    for length, histories in enumerate(recorder.histories):
        assert sorted(histories) == sorted(row[:length] for row in written)
