"""The page of the Python interface describes all that `attendgen.__all__` promises."""

import inspect
import re

import pytest

import attendgen
from helpers.pages import ROOT, read

PAGE = read(ROOT / "docs" / "reference" / "api.md")
SECTIONS = {part.split("\n")[0].strip("# `"): part for part in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]}


def heading(name: str) -> str:
    """The heading of a public name: a function with its parameters and their defaults."""
    found = getattr(attendgen, name)
    if not inspect.isfunction(found):
        return f"attendgen.{name}"
    signature = inspect.signature(inspect.unwrap(found))
    parameters = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    return f"attendgen.{name}{inspect.Signature(parameters)}"


def test_the_page_has_a_section_for_each_public_name() -> None:
    assert set(SECTIONS) == {heading(name) for name in attendgen.__all__}


def test_every_promised_name_can_be_imported() -> None:
    assert set(attendgen.__all__) - {"__version__"} == set(dir(attendgen))
    for name in attendgen.__all__:
        assert getattr(attendgen, name) is not None


@pytest.mark.parametrize("name", ["Comparison", "Result", "Run", "Scores"])
def test_a_class_s_public_members_are_described(name: str) -> None:
    kind = getattr(attendgen, name)
    own = {*vars(kind), *getattr(kind, "__annotations__", {})}
    section = SECTIONS[f"attendgen.{name}"]
    for member in own:
        if not member.startswith("_") and member not in ("mro",):
            assert re.search(rf"\b{member}\b", section), f"docs/reference/api.md: {name}.{member} is missing"
