"""`attendgen generate`: answers, continuations, scores of given outputs, streaming."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attendgen.inference.load import load
from helpers.attention_pages import read_data
from helpers.errors import Command, assert_mistake
from helpers.runs import SharedRuns


def test_generate_prints_scores_and_saves_attention(attendgen: Command, runs: SharedRuns, tmp_path: Path) -> None:
    figure = tmp_path / "map.png"
    page = tmp_path / "page.html"
    options = ("--beam", "3", "--n-best", "2", "--attention", figure, "--html", page)
    outcome = attendgen("generate", runs("toy_chat"), "Tu vas bien ?", *options)
    assert outcome.code == 0, outcome.err
    (item,) = read_data(page.read_text(encoding="utf-8"))["items"]
    outputs = item["models"][0]["outputs"]
    assert [output["text"] for output in outputs] == [line.split("\t")[1] for line in outcome.out.splitlines()]
    assert all(len(step) == 5 for output in outputs for step in output["alternatives"])
    scores = [float(line.split("\t")[0]) for line in outcome.out.splitlines()]
    assert len(scores) == 2
    assert scores[0] >= scores[1]
    assert Image.open(figure).size[0] > 100


@pytest.mark.parametrize("experiment", ["toy_chat", "novels"])
def test_score_of_a_given_output_equals_that_of_its_generation(
    attendgen: Command, runs: SharedRuns, tmp_path: Path, experiment: str
) -> None:
    model = load(runs(experiment))
    found = model.generate("Tu vas bien", max_length=40, temperature=1.0, seed=3)[0]
    forced = model.score("Tu vas bien", found.text)
    if experiment == "novels" or found.tokens[-1] == "<eos>":
        assert forced.tokens == found.tokens
    length = len(found.text)
    np.testing.assert_allclose(forced.log_probs[:length], found.log_probs[:length], atol=1e-4)
    np.testing.assert_allclose(forced.attention[:length], found.attention[:length], atol=1e-5)
    assert forced.score == pytest.approx(forced.log_probs.sum(), abs=1e-3)
    figure = tmp_path / "map.png"
    outcome = attendgen("generate", runs(experiment), "Tu vas bien", "--score", "es", "--attention", figure)
    assert outcome.code == 0, outcome.err
    score, text = outcome.out.rstrip("\n").split("\t")
    assert text == "es"
    assert float(score) == pytest.approx(model.score("Tu vas bien", "es").score, abs=1e-3)
    assert figure.exists()


def test_outputs_of_a_batch_equal_those_of_each_text_alone(attendgen: Command) -> None:
    # of a trained model: rounding decides between the outputs of an untrained one
    texts = ["Tu vas bien ?", "Salut", "Quoi de neuf dans ta vie ?"]
    options = ("--beam", 4, "--length-penalty", 0.6, "--min-length", 3)
    options += ("--no-repeat-ngram-size", 3, "--coverage-penalty", 0.1)
    together = attendgen("generate", "toy-chat", *texts, *options).out.splitlines()
    alone = [attendgen("generate", "toy-chat", text, *options).out.rstrip("\n") for text in texts]
    assert together == alone
    assert all(together)


def test_average_length_penalty_divides_by_the_length(attendgen: Command, runs: SharedRuns) -> None:
    run = runs("toy_chat")
    options = ("--beam", 3, "--n-best", 3, "--length-penalty-type", "avg", "--max-length", 20)
    outcome = attendgen("generate", run, "Salut", *options)
    assert outcome.code == 0, outcome.err
    found = load(run).generate("Salut", beam_size=3, n_best=3, length_penalty_type="avg", max_length=20)
    for line, result in zip(outcome.out.splitlines(), found, strict=True):
        assert float(line.split("\t")[0]) == pytest.approx(result.log_probs.sum() / len(result.tokens), abs=1e-3)


def test_continuation_depends_on_the_seed_alone(attendgen: Command, runs: SharedRuns) -> None:
    def sample(seed: int) -> str:
        return attendgen("generate", runs("novels"), "It was", "--max-length", "60", "--seed", seed).out

    one = sample(1)
    assert len(one.rstrip("\n")) <= 60
    assert one == sample(1) != sample(2)


def test_context_can_be_read_from_a_file(attendgen: Command, runs: SharedRuns, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("It was")
    options = ("--max-length", "30", "--seed", "1")
    outcome = attendgen("generate", runs("novels"), "--prompt-file", tmp_path / "prompt.txt", *options)
    assert outcome.code == 0, outcome.err
    assert outcome.out == attendgen("generate", runs("novels"), "It was", *options).out


def test_streamed_continuation_equals_the_returned_one(attendgen: Command, runs: SharedRuns) -> None:
    run = runs("novels")
    made = load(run).generate("It was", max_length=50, seed=3)[0]
    assert attendgen("generate", run, "It was", "--max-length", "50", "--seed", "3").out == made.text + "\n"
    many = attendgen("generate", run, "It was", "--n-best", "2", "--max-length", "20", "--seed", "3").out
    assert len(many.split("\t")) == 3  # each after its score


@pytest.mark.parametrize("experiment", ["toy_chat", "novels"])
@pytest.mark.parametrize("options", [("--temperature", 0), ("--beam", 1)], ids=str)
def test_temperature_0_and_beam_1_are_greedy(
    attendgen: Command, runs: SharedRuns, experiment: str, options: tuple[str, int]
) -> None:
    run = runs(experiment)
    greedy = load(run).generate("It was", beam_size=1, temperature=0.0, max_length=30)[0]
    outcome = attendgen("generate", run, "It was", *options, "--max-length", 30)
    assert outcome.code == 0, outcome.err
    assert outcome.out == greedy.text + "\n"


def test_a_figure_of_a_model_without_attention_is_refused_before_the_text(attendgen: Command, tmp_path: Path) -> None:
    outcome = attendgen("generate", "novels", "It was", "--attention", tmp_path / "map.png")
    assert_mistake(outcome, "--attention: novels does not attend to anything")
    assert outcome.out == ""
