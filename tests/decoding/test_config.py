"""The settings of decoding: defaults, validation, and which options turn off which."""

import subprocess
import sys
from dataclasses import FrozenInstanceError, asdict, fields
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from attendgen.decoding.config import DecodingConfig
from helpers.errors import refusal

CONF = Path(__file__).parents[2] / "conf" / "decoding"
BASES = {
    "greedy": DecodingConfig(),
    "beam": DecodingConfig(beam_size=5, length_penalty=0.6, n_best=2),
    "sampling": DecodingConfig(temperature=0.7, top_k=5, top_p=0.9, seed=3, n_best=1),
    "mbr": DecodingConfig(beam_size=20, mbr_samples=100, temperature=0.8, top_p=0.9),
    "retrieval": DecodingConfig(beam_size=20, retrieval_captions=60),
    "both": DecodingConfig(beam_size=20, mbr_samples=100, retrieval_captions=60),
}
any_base = pytest.mark.parametrize("base", BASES.values(), ids=BASES)


def test_default_config_file_equals_the_defaults():
    config = OmegaConf.to_container(OmegaConf.load(CONF / "default.yaml"))
    assert config.pop("_target_") == "attendgen.decoding.DecodingConfig"
    assert {**config, "processors": tuple(config["processors"])} == asdict(DecodingConfig())


def test_every_config_file_is_valid():
    expected = {
        "default": DecodingConfig(),
        "greedy": DecodingConfig(),
        "beam": DecodingConfig(beam_size=5),
        "sampling": DecodingConfig(max_length=200, temperature=0.7),
        "mbr": DecodingConfig(beam_size=20, length_penalty=1.2, mbr_samples=100),
    }
    assert {path.stem for path in CONF.glob("*.yaml")} == set(expected)
    default = OmegaConf.load(CONF / "default.yaml")
    for name, config in expected.items():
        loaded = OmegaConf.load(CONF / f"{name}.yaml")
        loaded.pop("defaults", None)
        assert instantiate(OmegaConf.merge(default, loaded)) == config


WRONG = """
import sys, attendgen.decoding.config as config
for name, value in (("beam_size", "x"), ("max_length", 2.5), ("length_penalty", "x"), ("temperature", True),
                    ("top_k", "x"), ("top_p", "x"), ("seed", "x"), ("length_penalty_type", 3), ("processors", "x"),
                    ("processors", [3]), ("drop_finished", "x"), ("no_repeat_ngram_size", None)):
    try:
        config.DecodingConfig(**{name: value})
    except config.UserError as error:
        assert str(error).startswith(f"decoding.{name}") and "\\n" not in str(error), error
    else:
        raise AssertionError((name, value))
assert "torch" not in sys.modules
"""


def test_a_setting_of_a_wrong_type_is_one_line():
    """In a process of its own, without the type checks of the tests."""
    done = subprocess.run([sys.executable, "-c", WRONG], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_settings_are_frozen():
    with pytest.raises(FrozenInstanceError):
        DecodingConfig().beam_size = 3


def test_every_setting_has_a_help_text():
    assert all(field.metadata["help"].endswith(".") for field in fields(DecodingConfig))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 0}, "decoding.max_length=0: expected a whole number from 1"),
        ({"length_penalty": 1e300}, "decoding.length_penalty=1e+300: expected a number from 0 to 10"),
        ({"min_length": 0}, "decoding.min_length=0: expected a whole number from 1"),
        ({"min_length": 5, "max_length": 4}, "decoding.min_length=5: above max_length=4; change one of them"),
        ({"beam_size": 0}, "decoding.beam_size=0: expected a whole number from 1"),
        ({"beam_size": True}, "decoding.beam_size=True: expected a whole number from 1"),
        ({"n_best": 0}, "decoding.n_best=0: expected a whole number from 1"),
        ({"n_best": 3}, "decoding.n_best=3: more than the beam size 1; use a beam of 3"),
        ({"n_best": 3, "beam_size": 2}, "decoding.n_best=3: more than the beam size 2; use a beam of 3"),
        ({"length_penalty": -0.5}, "decoding.length_penalty=-0.5: expected a number from 0"),
        ({"length_penalty": float("nan")}, "decoding.length_penalty=nan: expected a number from 0"),
        ({"length_penalty_type": "wu"}, "decoding.length_penalty_type=wu: unknown; choose gnmt or avg"),
        ({"coverage_penalty": -1.0}, "decoding.coverage_penalty=-1.0: expected a number from 0"),
        ({"no_repeat_ngram_size": -1}, "decoding.no_repeat_ngram_size=-1: expected a whole number from 0"),
        ({"temperature": -1.0}, "decoding.temperature=-1.0: expected a number from 0"),
        ({"temperature": float("inf")}, "decoding.temperature=inf: expected a number from 0"),
        ({"top_k": 0}, "decoding.top_k=0: expected a whole number from 1"),
        ({"top_p": 0.0}, "decoding.top_p=0.0: expected a probability above 0, up to 1"),
        ({"top_p": 1.5}, "decoding.top_p=1.5: expected a probability above 0, up to 1"),
        ({"beam_size": 3, "temperature": 0.5}, "decoding.beam_size=3: excludes sampling; leave one of them out"),
        ({"beam_size": 3, "top_k": 5}, "decoding.beam_size=3: excludes sampling; leave one of them out"),
        ({"mbr_samples": -1, "beam_size": 4}, "decoding.mbr_samples=-1: expected a whole number from 0"),
        ({"mbr_samples": 5}, "decoding.mbr_samples=5: re-ranks a beam; set a beam size, such as 20"),
        (
            {"mbr_samples": 5, "beam_size": 4, "temperature": 0.5, "n_best": 5},
            "decoding.n_best=5: more than the beam size 4; use a beam of 5",
        ),
        ({"retrieval_captions": -1, "beam_size": 4}, "decoding.retrieval_captions=-1: expected a whole number from 0"),
        ({"retrieval_captions": 5}, "decoding.retrieval_captions=5: re-ranks a beam; set a beam size, such as 20"),
        ({"seed": -1, "temperature": 1.0}, "decoding.seed=-1: expected a whole number from 0"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(options, message):
    assert refusal(DecodingConfig, **options) == message
    assert refusal(DecodingConfig().override, **options)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max_length", 2.5, "decoding.max_length=2.5: expected a whole number from 1"),
        ("temperature", "hot", "decoding.temperature=hot: expected a number from 0"),
        ("top_k", "3", "decoding.top_k=3: expected a whole number from 1"),
        ("top_p", "x", "decoding.top_p=x: expected a number from 0"),
        ("top_p", True, "decoding.top_p=True: expected a number from 0"),
        ("seed", 0.5, "decoding.seed=0.5: expected a whole number from 0"),
    ],
)
def test_values_of_a_wrong_type_are_refused(name, value, message):
    config = DecodingConfig(temperature=1.0)
    object.__setattr__(config, name, value)  # the run-time type check of the tests would refuse it in a call
    assert refusal(config.__post_init__) == message


@pytest.mark.parametrize(
    ("options", "samples", "greedy", "reranks"),
    [
        ({}, False, True, False),
        ({"temperature": 0.5}, True, False, False),
        ({"temperature": 0.5, "n_best": 7}, True, False, False),
        ({"beam_size": 4}, False, False, False),
        ({"beam_size": 4, "mbr_samples": 5}, False, False, True),
        ({"beam_size": 4, "mbr_samples": 5, "temperature": 0.5}, False, False, True),
        ({"beam_size": 4, "retrieval_captions": 5}, False, False, True),
    ],
    ids=str,
)
def test_settings_choose_the_algorithm(options, samples, greedy, reranks):
    config = DecodingConfig(**options)
    assert (config.samples_outputs, config.is_greedy, config.reranks) == (samples, greedy, reranks)


@pytest.mark.parametrize("options", [{"top_k": 3}, {"top_p": 0.5}, {"top_k": 3, "temperature": 0.0}], ids=str)
def test_top_k_or_top_p_alone_implies_temperature_1(options):
    assert DecodingConfig(**options).temperature == 1.0
    assert DecodingConfig(**options).samples_outputs


@any_base
def test_temperature_0_is_greedy_over_any_base(base):
    config = base.override(temperature=0.0)
    assert config.is_greedy
    assert not config.reranks
    assert (config.top_k, config.top_p) == (None, None)


@any_base
def test_beam_size_1_is_greedy_over_any_base(base):
    config = base.override(beam_size=1)
    assert config.is_greedy
    assert not config.reranks
    assert (config.top_k, config.top_p) == (None, None)


def test_greedy_decoding_gives_one_output_whatever_the_base():
    assert BASES["beam"].override(beam_size=1) == BASES["beam"].override(temperature=0.0)
    assert BASES["beam"].override(beam_size=1).n_best == 1
    assert refusal(BASES["beam"].override, beam_size=1, n_best=2).startswith("decoding.n_best=2")


def test_a_penalty_of_one_type_turns_off_the_other():
    averaged = BASES["beam"].override(length_penalty_type="avg")
    assert (averaged.length_penalty_type, averaged.length_penalty) == ("avg", 0.0)
    again = averaged.override(length_penalty=0.7)
    assert (again.length_penalty_type, again.length_penalty) == ("gnmt", 0.7)
    assert "length_penalty=0.7" in refusal(averaged.override, length_penalty=0.7, length_penalty_type="avg")


@pytest.mark.parametrize("base", [BASES[name] for name in ("greedy", "beam", "sampling", "retrieval")], ids=str)
def test_temperature_turns_off_the_beam(base):
    config = base.override(temperature=0.5)
    assert config.samples_outputs
    assert config.temperature == 0.5
    assert (config.beam_size, config.retrieval_captions) == (1, 0)


@pytest.mark.parametrize("base", [BASES[name] for name in ("greedy", "beam", "retrieval")], ids=str)
@pytest.mark.parametrize("option", [{"top_k": 4}, {"top_p": 0.4}], ids=str)
def test_top_k_or_top_p_turns_off_the_beam(base, option):
    config = base.override(**option)
    assert config.samples_outputs
    assert config.temperature == 1.0


def test_top_k_keeps_the_temperature_of_a_sampling_base():
    assert BASES["sampling"].override(top_k=2) == DecodingConfig(temperature=0.7, top_k=2, top_p=0.9, seed=3)


def test_beam_turns_off_sampling():
    assert BASES["sampling"].override(beam_size=4) == DecodingConfig(beam_size=4, seed=3)


@pytest.mark.parametrize("base", [BASES["mbr"], BASES["both"]], ids=str)
def test_sampling_options_of_mbr_are_those_of_its_samples(base):
    config = base.override(temperature=0.5, top_k=7)
    assert (config.temperature, config.top_k) == (0.5, 7)
    assert (config.beam_size, config.mbr_samples) == (base.beam_size, base.mbr_samples)
    assert base.override(beam_size=8).temperature == base.temperature


def test_options_may_ask_for_mbr_over_any_base():
    expected = DecodingConfig(beam_size=8, mbr_samples=10)
    assert BASES["greedy"].override(beam_size=8, mbr_samples=10) == expected
    assert BASES["beam"].override(mbr_samples=10).reranks
    assert BASES["sampling"].override(beam_size=8, mbr_samples=10).mbr_samples == 10


@any_base
def test_options_of_none_change_nothing(base):
    assert base.override() == base
    assert base.override(**dict.fromkeys(asdict(base))) == base


@any_base
def test_options_of_no_algorithm_leave_the_others(base):
    assert base.override(max_length=7) == DecodingConfig(**(asdict(base) | {"max_length": 7}))


@any_base
def test_beam_and_temperature_exclude_each_other_without_mbr(base):
    if base.mbr_samples:
        assert base.override(beam_size=4, temperature=0.5).mbr_samples == base.mbr_samples
    else:
        assert "excludes sampling" in refusal(base.override, beam_size=4, temperature=0.5)


def test_temperature_0_excludes_settings_of_sampling():
    for option in ({"top_k": 5}, {"top_p": 0.9}):
        assert "decoding.temperature=0: turns sampling off" in refusal(
            DecodingConfig().override, temperature=0, **option
        )


def test_unknown_settings_are_refused():
    message = refusal(DecodingConfig().override, beam=3)
    assert message.startswith("decoding.beam: no such setting; choose one of max_length, min_length, beam_size, ")
