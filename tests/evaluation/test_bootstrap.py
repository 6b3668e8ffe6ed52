"""The paired bootstrap against a plain computation with the same samples, and against sacrebleu's statistics."""

import random

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU

from attendgen.evaluation.bootstrap import compare_systems, draw_indices
from attendgen.layers.tables import Cell, Row
from attendgen.metrics.captions import score_captions
from attendgen.metrics.nist import Nist
from attendgen.metrics.statistics import METRICS, TABLE_METRICS, collect_statistics
from attendgen.metrics.text import Bleu, Chrf, Ter
from helpers.errors import refusal

WORDS = ["a", "the", "dog", "cat", "runs", "sleeps", "on", "under", "red", "green", "grass", "sofa"]


def make_texts(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(3, 8))) for _ in range(count)]


REFERENCES = [(text, other) for text, other in zip(make_texts(24, 1), make_texts(24, 2), strict=True)]


def damage(share: float, seed: int) -> list[str]:
    """Outputs that are a reference, or with this probability something else."""
    draw = random.Random(seed)
    others = make_texts(len(REFERENCES), seed + 100)
    return [other if draw.random() < share else texts[0] for texts, other in zip(REFERENCES, others, strict=True)]


def score(metric: str, outputs: list[str], references: list[tuple[str, ...]]) -> float:
    """A corpus score by the functions of an evaluation."""
    lower = Bleu("bleu_lower", lowercase=True)
    corpus = {"bleu": Bleu(), "bleu_lower": lower, "nist": Nist(), "chrf": Chrf(), "ter": Ter()}
    if metric in corpus:
        return corpus[metric](outputs, references)[metric]
    if metric == "exact_match":
        return sum(text in texts for text, texts in zip(outputs, references, strict=True)) / len(outputs)
    return score_captions(dict(enumerate(outputs)), dict(enumerate(references)))[metric]


@pytest.mark.parametrize("metric", METRICS)
def test_statistics_give_the_corpus_score(metric: str) -> None:
    outputs = damage(0.4, 3)
    found = collect_statistics(metric, outputs, REFERENCES)
    assert found.score(found.values.sum(axis=0)) == pytest.approx(score(metric, outputs, REFERENCES), rel=1e-6)


@pytest.mark.parametrize("metric", ["bleu", "chrf", "exact_match", "bleu4"])
def test_samples_are_scored_as_if_they_were_the_data(metric: str) -> None:
    one, other = damage(0.3, 3), damage(0.5, 4)
    found = compare_systems(
        metric, [collect_statistics(metric, one, REFERENCES)], [collect_statistics(metric, other, REFERENCES)], 60, 7
    )
    differences = []
    for chosen in draw_indices(len(REFERENCES), 60, 7).tolist():
        references = [REFERENCES[i] for i in chosen]
        scores = [score(metric, [outputs[i] for i in chosen], references) for outputs in (one, other)]
        differences.append(scores[0] - scores[1])
    difference = score(metric, one, REFERENCES) - score(metric, other, REFERENCES)
    assert found.difference == pytest.approx(difference, abs=1e-6)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(differences, [2.5, 97.5])), abs=1e-6)
    extreme = sum(abs(each - difference) >= abs(difference) - 1e-9 for each in differences)
    assert found.p_value == pytest.approx((1 + extreme) / 61)
    assert found.wins == pytest.approx(np.mean([each > 1e-9 for each in differences]))


def test_cider_is_averaged_over_images() -> None:
    one, other = (collect_statistics("cider", damage(share, 3), REFERENCES) for share in (0.2, 0.6))
    found = compare_systems("cider", [one], [other], 50, 0)
    scores = one.values[:, 0] - other.values[:, 0]
    means = [scores[chosen].mean() for chosen in draw_indices(len(scores), 50, 0)]
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])))
    assert found.difference == pytest.approx(scores.mean())


@pytest.mark.parametrize("metric", ["bleu", "exact_match", "cider"])
def test_equal_outputs_do_not_differ(metric: str) -> None:
    system = [collect_statistics(metric, damage(0.3, 3), REFERENCES)]
    found = compare_systems(metric, system, system, 50)
    assert (found.difference, found.low, found.high, found.p_value, found.wins) == (0, 0, 0, 1, 0)


def test_a_clear_difference_has_the_least_p_value() -> None:
    systems = [[collect_statistics("bleu", damage(share, 3), REFERENCES)] for share in (0.0, 1.0)]
    found = compare_systems("bleu", *systems, samples=99, seed=1)
    assert found.p_value == 1 / 100
    assert found.low > 0
    swapped = compare_systems("bleu", *systems[::-1], samples=99, seed=1)
    assert (swapped.difference, swapped.low) == pytest.approx((-found.difference, -found.high))
    assert swapped.p_value == found.p_value


def test_scores_of_seeds_are_averaged() -> None:
    seeds = [damage(0.3, seed) for seed in (3, 4, 5)]
    other = collect_statistics("bleu", damage(0.6, 6), REFERENCES)
    found = compare_systems("bleu", [collect_statistics("bleu", each, REFERENCES) for each in seeds], [other], 10)
    scores = [BLEU(force=True).corpus_score(each, list(zip(*REFERENCES, strict=True))).score for each in seeds]
    assert found.first == pytest.approx(np.mean(scores))
    assert found.seeds == (3, 1)


@pytest.mark.parametrize("metric", TABLE_METRICS)
def test_statistics_of_tables_give_the_corpus_score(metric: str) -> None:
    """The rows have the kinds of all three sets; the players are words of the texts."""
    rows = [
        Row(name, (Cell("PLAYER-PTS", name, str(number)), Cell("food", "", name)))
        for number, name in enumerate(WORDS[:4], 1)
    ]
    team = Row("sofa", (Cell("TEAM-NAME", "sofa", "sofa"), Cell("TEAM-PTS", "sofa", "99")))
    tables = [(team, rows[i % 4], rows[(i + 1) % 4]) for i in range(24)]
    outputs = [f"{WORDS[i % 3]} had {i % 5} points ." for i in range(24)]
    references = [[f"{WORDS[i % 2]} had {i % 3} points ."] for i in range(24)]
    found = collect_statistics(metric, outputs, references, tables)
    expected = TABLE_METRICS[metric]().score_tables(outputs, references, tables)[metric]
    assert found.score(found.values.sum(axis=0)) == pytest.approx(expected)
    assert f"--metric {metric}: compares texts with tables" in refusal(collect_statistics, metric, outputs, references)


def test_wrong_settings_are_refused() -> None:
    system = [collect_statistics("bleu", damage(0.3, 3), REFERENCES)]
    assert "--samples 0" in refusal(compare_systems, "bleu", system, system, 0)
    assert "--seed -1" in refusal(compare_systems, "bleu", system, system, 5, -1)
    assert "--metric meteor" in refusal(collect_statistics, "meteor", [], [])
