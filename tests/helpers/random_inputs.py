"""Texts, plain data and files of any kind, drawn by Hypothesis, and the check that nothing ends in a traceback."""

import contextlib
import json
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from attendgen.utils.errors import UserError

CHARACTERS = "abcé日क्👨\u200d🇫\u0301\ufeff \t\n\r\u2028\0'\"\\,;:=|#&~$%@!?*(){}[]<>-+._/0123456789"
NAMES = ["tokens", "level", "normalizer", "source", "target", "images", "annotations", "id", "image_id", "file_name"]
NAMES += ["caption", "captions", "split", "image", "data", "_target_", "dataset", "sentences", "raw", "caption_str"]
NAMES += ["rows", "cells", "text", "texts", "name", "side", "box_score", "home_line", "summary", "categories", "bbox"]
WORDS = ["characters", "words", "attendgen.text.Vocabulary", "os.system", "train", "a.jpg", "<unk>", "N/A", "1" * 5000]
ODD = [b"", b"1" * 5000, b"[" * 5000, b"1e999", b"NaN", b"\xef\xbb\xbf", b"\xff\xfe", b"\r", b"\0", b'{"rows": {}}']
ENCODINGS = ["utf-8", "utf-16", "utf-8-sig", "gb18030", "latin-1"]

TEXTS = st.text(st.sampled_from(CHARACTERS) | st.characters(codec="utf-8"), max_size=12)
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, -1, 10**30])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=6,
)
LINES = st.lists(st.lists(TEXTS, max_size=4), max_size=4)


def join(rows: list[list[str]], separator: str, end: str, encoding: str) -> bytes:
    """Return a table of texts as a file."""
    return end.join(separator.join(row) for row in rows).encode(encoding, "replace")


def draw_files(valid: bytes) -> SearchStrategy[bytes]:
    """Return files: one that is valid, with a part of it replaced, and any others."""

    def splice(start: int, length: int, other: bytes) -> bytes:
        start %= len(valid) + 1
        return valid[:start] + other + valid[start + length :]

    others = st.binary(max_size=4) | VALUES.map(dump) | st.sampled_from(ODD)
    broken = st.builds(splice, st.integers(0, 10**6), st.integers(0, 40), others)
    separators, ends = st.sampled_from("\t,| "), st.sampled_from(["\n", "\r\n"])
    tables = st.builds(join, LINES, separators, ends, st.sampled_from(ENCODINGS))
    return broken | broken | st.binary(max_size=60) | st.sampled_from(ODD) | VALUES.map(dump) | tables


def dump(value: Any) -> bytes:
    """Return plain data as JSON."""
    return json.dumps(value).encode()


def check_refusals(function: Callable[..., Any], *strategies: SearchStrategy[Any], count: int = 25) -> None:
    """Check that a function returns or refuses its input, whatever it is; Hypothesis prints the smallest exception."""

    @settings(
        max_examples=count, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.tuples(*strategies))
    def hold(arguments: tuple[Any, ...]) -> None:
        with contextlib.suppress(UserError):
            function(*arguments)

    hold()
