"""Tags of evaluations say which settings were changed, and keep different settings apart."""

import itertools

import pytest
from omegaconf import OmegaConf

from attendgen.config.overrides import override_config
from attendgen.evaluation.tag import LONGEST, make_tag, require_tag
from helpers.errors import refusal

CONFIG = OmegaConf.create(
    {
        "seed": 0,
        "decoding": {"beam_size": 1, "length_penalty": 0.0, "seed": None, "max_length": 30},
        "task": {"decoding": "${decoding}"},
        "data": {"root": "/here", "val": "a.tsv", "batch_size": 4},
    }
)


def tag(*overrides: str, **more: object) -> str:
    return make_tag(CONFIG, override_config(CONFIG, list(overrides)), list(overrides), **more)


def test_settings_are_named_in_short() -> None:
    assert tag("decoding.beam_size=5") == "beam5"
    assert tag("decoding.length_penalty=1.2", "decoding.beam_size=5") == "beam5_lp1.2"
    assert tag("task.decoding.max_length=9") == "max9"
    assert tag(dynamic=0.05) == "dynamic0.05"


def test_the_order_of_overrides_does_not_matter() -> None:
    overrides = ("decoding.beam_size=5", "decoding.length_penalty=1.2", "decoding.seed=3")
    assert len({tag(*order) for order in itertools.permutations(overrides)}) == 1


@pytest.mark.parametrize("override", ["decoding.beam_size=1", "data.root=/elsewhere", "data.batch_size=64"])
def test_the_runs_own_settings_and_places_have_no_tag(override: str) -> None:
    assert tag(override) == ""


def test_other_values_have_other_tags() -> None:
    values = ["one/b.tsv", "two/b.tsv", "b.tsv", "ä.tsv", "ö.tsv", "a" * 200 + "1", "a" * 200 + "2"]
    tags = [tag(f"data.val={value}") for value in values]
    assert len(set(tags)) == len(values)
    for found in tags:
        assert require_tag(found) == found, "a tag is fit for a file's name"
        assert len(found) <= LONGEST


def test_a_tag_of_ones_own_cannot_leave_the_folder() -> None:
    assert require_tag("") == ""
    for name in ("../x", "a/b", ".hidden", "a b"):
        assert "--tag" in refusal(require_tag, name)
