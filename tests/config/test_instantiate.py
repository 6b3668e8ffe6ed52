"""Configs to objects: a mistake is one line that begins with the field."""

import datetime
from typing import Any

import pytest
from omegaconf import OmegaConf

from attendgen.config.instantiate import get_first_line, instantiate
from attendgen.decoding.config import DecodingConfig
from helpers.errors import refusal


def test_arguments_are_plain_data_and_parts_are_made() -> None:
    made = instantiate(OmegaConf.create({"_target_": "builtins.dict", "x": [1, {"_target_": "builtins.list"}]}), y=2)
    assert made == {"x": [1, []], "y": 2}
    assert type(made["x"]) is list


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_target_": "no_such_package.Model"}, "no_such_package"),
        ({"_target_": "attendgen.models.NoSuchModel"}, "NoSuchModel"),
        ({"_target_": "datetime.timedelta", "dayz": 1}, "dayz"),
        ({"_target_": "datetime.date", "year": 2000, "month": 13, "day": 1}, "month must be in 1..12"),
        ({"_target_": "attendgen.optim.WarmupCosine", "warmup": 3}, "steps"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_field(config: dict[str, Any], message: str) -> None:
    told = refusal(instantiate, OmegaConf.create(config), "model")
    assert told.startswith("model: ")
    assert message in told


def test_a_mistake_that_a_class_reports_itself_is_passed_on() -> None:
    config = OmegaConf.create({"_target_": "attendgen.decoding.DecodingConfig", "beam_size": 0})
    told = refusal(instantiate, config, "task")
    assert told.startswith("decoding.beam_size=0: ")


def test_a_bug_is_not_taken_for_a_mistake() -> None:
    config = OmegaConf.create({"_target_": "operator.truediv", "_args_": [1, 0]})
    with pytest.raises(Exception, match="division by zero") as caught:
        instantiate(config, "model")
    assert type(caught.value).__name__ != "UserError"


def test_a_partial_waits_for_its_other_arguments() -> None:
    make = instantiate(OmegaConf.create({"_target_": "datetime.timedelta", "_partial_": True, "days": 1}))
    assert make(hours=2) == datetime.timedelta(days=1, hours=2)
    config = instantiate(OmegaConf.create({"_target_": "attendgen.decoding.DecodingConfig", "beam_size": 3}))
    assert config == DecodingConfig(beam_size=3)


def test_a_message_of_several_lines_becomes_one() -> None:
    assert get_first_line(ValueError("wrong\n  value\n    full_key: a.b\nobject_type=dict")) == "wrong value"
