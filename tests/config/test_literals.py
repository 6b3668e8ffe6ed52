"""Paths and texts reach a config as they are written, whatever Hydra's grammar makes of them."""

import random
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from attendgen.config.literals import quote, quote_arguments, unquote
from attendgen.hydra_app.app import run_hydra
from attendgen.runs.run import Run
from helpers.errors import refusal

NAMES = ["données/p.tsv", "my pairs.tsv", "a[1].tsv", "it's.tsv", 'a"b.tsv', "a=b.tsv", "a#b&c.tsv", "a,b.tsv"]
NAMES += ["2017", "no", "0123", "1e3", "true", "a\\", "(1)", "a\\'b", "東京.tsv"]


def parse(argument: str) -> object:
    return OverridesParser.create().parse_override(argument).value()


@pytest.mark.parametrize("name", NAMES)
def test_a_path_is_the_text_that_was_written(name: str) -> None:
    [argument] = quote_arguments([f"data.train={name}"], False)
    assert parse(argument) == name
    assert quote_arguments([argument], False) == [argument], "a further process gets the quoted argument"


def test_any_text_survives_the_quotes() -> None:
    draw = random.Random(0)
    for _ in range(300):
        text = "".join(draw.choices("a1é東 \\'\"[](){}=,:#&~$%*?!", k=draw.randint(1, 9))).replace("${", "")
        if text:
            assert parse(f"key={quote(text)}") == text
            assert unquote(quote(text)) == text


def test_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert quote_arguments(["data.train=~/p.tsv"], False) == [f"data.train={tmp_path}/p.tsv"]


def test_lists_of_files_sweeps_and_references_stay() -> None:
    kept = ["data.train=[train.fr,train.en]", "data.root=${paths.data}/x", "data.val=null", "ablation=glob(*)"]
    assert quote_arguments([*kept, "seed=1,2"], False) == [*kept, "seed=1,2"]
    assert quote_arguments(["data.train=a.tsv,b.tsv"], True) == ["data.train=a.tsv,b.tsv"]
    assert quote_arguments(["data.train=é.tsv,b.tsv"], True) == ["data.train='é.tsv',b.tsv"]
    assert parse(quote_arguments(["data.train=[a.fr,é.en]"], False)[0]) == ["a.fr", "é.en"]


def test_a_syntax_error_names_the_argument() -> None:
    assert refusal(quote_arguments, ["task.optimizer.lr=[1"], False).startswith("task.optimizer.lr=[1: ")


@pytest.mark.parametrize("name", ["données [1] = 'a' #&.tsv", "2017"])
def test_a_training_and_its_evaluation_read_such_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text("Tu vas bien ?\tOui.\nMerci\tDe rien\n", encoding="utf-8")
    run_hydra(["experiment=toy_chat", "trainer=smoke", f"data.train={name}", "hydra.run.dir=run"])
    run = Run.find(tmp_path / "run")
    assert run.config.data.train == name
    assert run.override([f"data.val={name}"]).data.val == str(tmp_path / name)
