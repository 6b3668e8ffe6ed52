"""Arguments, vocabularies and run directories of any content end in a result or in one line."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import strategies as st
from omegaconf import OmegaConf

from attendgen.cli.evaluate import split_arguments
from attendgen.cli.options import take_settings
from attendgen.config.literals import quote_arguments
from attendgen.config.overrides import override_config
from attendgen.data.tables.written import parse_table
from attendgen.hydra_app.app import order_arguments, take_trust
from attendgen.hydra_app.auto import choose_resumed
from attendgen.runs.listing import find_runs
from attendgen.runs.run import Run
from attendgen.text.vocabulary import Vocabulary, load_vocabulary, vocabulary_from_dict
from attendgen.utils.resources import bundled_models
from helpers.random_inputs import TEXTS, VALUES, check_refusals, draw_files
from helpers.runs import SharedRuns

MANY = [pytest.param(10, id="few"), pytest.param(400, marks=pytest.mark.slow, id="many")]
KEYS = [
    "data.root",
    "data.batch_size",
    "model.hidden",
    "model",
    "name",
    "data.none",
    "+new",
    "~name",
    "",
    "a b",
    "resume",
]
KEYS += ["like", "hydra.run.dir", "sweep", "metrics.tokenize", "decoding.beam_size", "task.decoding.top_k"]
ODD = ["1" * 5000, "2001-99-99", "1e99999", "[" * 500, "0x", "1_000", "!!python/none", "&a *a", "a: b", "${a}"]
ASSIGNED = TEXTS | VALUES.map(json.dumps) | st.sampled_from([*ODD, "${oc.env:X}"])
OVERRIDES = st.builds("{}={}".format, st.sampled_from(KEYS), ASSIGNED) | TEXTS


@pytest.mark.parametrize("count", MANY)
def test_overrides(count: int) -> None:
    config = OmegaConf.create({"data": {"root": "a", "batch_size": 3}, "model": {"hidden": 4}, "name": None})
    check_refusals(lambda override: override_config(config, [override]), OVERRIDES, count=2 * count)
    run = Run.find("toy-chat", trained=False)
    check_refusals(lambda override: run.override([override]), OVERRIDES, count=count)
    arguments = st.lists(OVERRIDES | st.sampled_from(["-m", "--cfg", "job", "--trust", "resume=auto"]), max_size=3)
    check_refusals(take_trust, arguments, count=count)
    check_refusals(choose_resumed, arguments, count=count)
    check_refusals(order_arguments, arguments, count=count)
    check_refusals(split_arguments, arguments, count=count)
    check_refusals(lambda given: take_settings(given, {"beam_size": 2}), arguments, count=count)


@pytest.mark.parametrize("count", MANY)
def test_paths_reach_hydra_as_they_are_written(count: int) -> None:
    parser = OverridesParser.create()

    def parse(value: str) -> None:
        if value and not value.startswith(("'", '"', "[", "{")) and "$" not in value:
            (parsed,) = parser.parse_overrides(quote_arguments([f"data.root={value}"], False))
            assert parsed.key_or_group == "data.root"
            assert str(parsed.value()) == value or value == "null" or value.startswith("~")

    check_refusals(parse, TEXTS, count=2 * count)


@pytest.mark.parametrize("count", MANY)
def test_vocabularies(count: int) -> None:
    levels = st.sampled_from(["characters", "words", "caption", "pretokenized"])
    normalizers = st.sampled_from(["none", "raw", "nfkd", "fold", "letters", "printable"])

    def build(known: str, text: str, level: str, normalizer: str) -> None:
        vocabulary = Vocabulary.build([known], level=level, normalizer=normalizer)
        vocabulary.decode(vocabulary.encode(text))
        vocabulary.encode_known(text, "text")

    check_refusals(build, TEXTS, TEXTS, levels, normalizers, count=2 * count)
    check_refusals(lambda data: vocabulary_from_dict(data, "vocabulary.json"), VALUES, count=count)
    tables: Any = load_vocabulary(bundled_models()["e2e"] / "vocabulary.json")
    written = st.sampled_from(["name[A], food[French]", '{"rows": {"name": "A"}}', "A PTS 3; B PTS 4"]) | TEXTS
    check_refusals(lambda first, more: parse_table(first + more, tables), written, TEXTS, count=count)


@pytest.mark.parametrize("count", MANY)
def test_runs(runs: SharedRuns, tmp_path: Path, count: int) -> None:
    folder = shutil.copytree(runs("toy_chat"), tmp_path / "run")
    for name in ["config.yaml", "vocabulary.json", "checkpoints/best.ckpt"]:
        path = folder / name
        whole = path.read_bytes()

        def open_run(content: bytes, path: Path = path) -> None:
            path.write_bytes(content)
            Run.find(folder).load_model()

        check_refusals(open_run, draw_files(whole), count=count // 5)
        path.write_bytes(whole)
    for name in ["metrics_fit.json", "history.json", "environment.json", ".hydra/overrides.yaml", "settings_val.json"]:
        path = folder / name
        whole = path.read_bytes() if path.is_file() else b"{}"

        def list_runs(content: bytes, path: Path = path) -> None:
            path.write_bytes(content)
            for run in find_runs(tmp_path):
                str(run)

        check_refusals(list_runs, draw_files(whole), count=count // 5)
        path.write_bytes(whole)
    check_refusals(Run.find, TEXTS.filter(lambda name: not Path(name.replace("\0", "") or ".").exists()), count=count)
