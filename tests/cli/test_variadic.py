"""Options that take several values."""

import pytest

from attendgen.cli.variadic import repeat_options


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("DIR --metrics bleu chrf --by setting", "DIR --metrics bleu --metrics chrf --by setting"),
        ("--text a.txt b.txt c=1", "--text a.txt --text b.txt c=1"),
        ("--text a.txt --text b.txt", "--text a.txt --text b.txt"),
        ("RUN --split test x=1", "RUN --split test x=1"),
        ("--metrics=bleu DIR", "--metrics=bleu DIR"),
        ("--metrics", "--metrics"),
    ],
)
def test_an_option_is_repeated_before_each_of_its_values(given: str, expected: str) -> None:
    assert " ".join(repeat_options(given.split(), ("--metrics", "--text"))) == expected
