"""Help texts name every command and option."""

from dataclasses import fields

import pytest

from attendgen import __version__
from attendgen.decoding.config import DecodingConfig
from helpers.errors import Command

COMMANDS = (
    "train",
    "evaluate",
    "generate",
    "caption",
    "import",
    "ensemble",
    "merge",
    "rescale",
    "runs",
    "new",
    "trust",
)
COMPUTING = ["--device", "--precision"]
DECODING_COMPILED = [*COMPUTING, "--compile"]
DECODING = ["--beam", "--n-best", "--length-penalty", "--length-penalty-type", "--coverage-penalty", "--min-length"]
DECODING += ["--no-repeat-ngram-size", "--max-length", "--temperature", "--top-k", "--top-p", "--seed"]
DECODING += ["--mbr-samples", "--retrieval-captions", "--facts"]


def test_help_names_every_command(attendgen: Command) -> None:
    assert set(COMMANDS) <= set(attendgen("--help").out.split())


def test_no_command_prints_the_help(attendgen: Command) -> None:
    outcome = attendgen()
    assert outcome == (0, attendgen("--help").out, "")
    assert len(outcome.out.splitlines()) > len(COMMANDS)


def test_version(attendgen: Command) -> None:
    assert attendgen("--version") == (0, f"attendgen {__version__}\n", "")


@pytest.mark.parametrize(
    ("command", "words"),
    {
        "train": ["experiment=", "toy_chat", "resume=RUN", "like=RUN", "-m", "--trust"],
        "evaluate": [
            "RUN",
            "--split",
            "--out",
            "--text",
            "KEY=VALUE",
            "--dynamic-eval-lr",
            *DECODING_COMPILED,
            "--devices",
            "--trust",
            *DECODING,
        ],
        "generate": [
            *["RUN", "TEXT", *DECODING, "--prompt-file", "--input", "--output", "--resume"],
            *[*DECODING_COMPILED, "--attention", "--score", "--trust"],
        ],
        "caption": ["RUN", "IMAGE", *DECODING, "--data", "--out", "--html", *DECODING_COMPILED, "--trust"],
        "import": ["KIND", "FILE", "--out"],
        "ensemble": ["RUN", "--out", "--weights", "--fit", *COMPUTING, "--trust"],
        "merge": ["RUN", "--out", "--weights", "--trust"],
        "rescale": ["RUN", "KEY=VALUE", "--out", "--fit", *COMPUTING, "--trust"],
        "runs": ["DIR", "--csv", "--bundled"],
        "new": ["NAME", "--out"],
        "trust": ["PACKAGE", "--remove"],
    }.items(),
)
def test_help_of_a_command_names_its_arguments_and_options(attendgen: Command, command: str, words: list[str]) -> None:
    outcome = attendgen(command, "--help")
    assert outcome.code == 0
    for word in words:
        assert word in outcome.out, word


def test_every_decoding_setting_is_an_option() -> None:
    helps = {field.name: field.metadata["help"] for field in fields(DecodingConfig) if field.metadata["flag"]}
    flags = {"--beam" if name == "beam_size" else f"--{name.replace('_', '-')}" for name in helps}
    assert flags == set(DECODING)
    assert all(helps.values())
