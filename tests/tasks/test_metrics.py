"""Metrics of a task by config: logged, monitored, evaluated, resumed; a function of the user's own needs trust."""

import json
from pathlib import Path

import pytest
import yaml

from attendgen.metrics.text import Ter
from helpers.errors import Command, assert_mistake
from helpers.own_package import NAME, forget_package, write_package

OWN = "{_target_:mypaper.count_words,_partial_:true}"
METRICS = f"task.metrics=[{{_target_:attendgen.metrics.Ter}},{OWN}]"


@pytest.mark.slow
def test_scores_of_the_family_are_the_default(runs) -> None:
    assert yaml.safe_load((runs("toy_chat") / "config.yaml").read_text())["task"]["metrics"] is None


def test_metrics_by_config_go_through_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train, attendgen: Command
) -> None:
    write_package(tmp_path, monkeypatch, trusted=True)
    with (tmp_path / "modules" / f"{NAME}.py").open("a") as file:
        file.write(
            "\n\ndef count_words(outputs, references):\n    return {'words': sum(map(len, map(str.split, outputs)))}\n"
        )
    short = ["trainer=smoke", "callbacks.samples=null"]
    folder = train("toy_chat", *short, METRICS, "monitor.metric=val/ter", "monitor.mode=min")
    best = json.loads((folder / "metrics_fit.json").read_text())["val/ter"]
    forget_package(tmp_path, monkeypatch)
    assert_mistake(attendgen("evaluate", folder), "task.metrics.1._target_=mypaper.count_words", f"--trust {NAME}")
    done = attendgen("evaluate", folder, "--trust", NAME)
    assert done.code == 0, done.err
    scores = json.loads((folder / "metrics_val.json").read_text())
    assert set(scores) >= {"ter", "words", "cross_entropy", "perplexity"}
    assert not set(scores) & {"bleu", "chrf", "exact_match"}
    assert scores["ter"] == pytest.approx(best, rel=1e-6)
    outputs = (folder / "outputs_val.txt").read_text().splitlines()
    assert scores["words"] == sum(len(line.split()) for line in outputs)
    assert "ter" in done.out
    assert Ter()(["x"], [["x"]]) == {"ter": 0.0}
