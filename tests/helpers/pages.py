"""The pages of the documentation, their blocks of code, and the commands in them."""

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "data/README.md", "data/models/*/README.md", "outputs/README.md")
    for path in ROOT.glob(pattern)
)
SHELLS = ("bash", "sh", "console")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
OPERATORS = ";&|>"


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def fences(page: Path) -> list[tuple[str, str]]:
    """The language and the text of each fenced block."""
    return FENCE.findall(read(page))


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", read(page))


def split_shell(line: str) -> Iterator[list[str]]:
    """The simple commands of a line of shell, as words; also those that a quoted word holds."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=OPERATORS)
    lexer.whitespace_split = True
    words = list(lexer)
    for is_operator, group in itertools.groupby(words, lambda word: not word.strip(OPERATORS)):
        if not is_operator:
            command = list(group)
            yield command
            yield from itertools.chain.from_iterable(split_shell(word) for word in command if "attendgen " in word)


def find_commands(page: Path) -> Iterator[list[str]]:
    """The arguments of each call of attendgen: all in blocks of shell, and in the prose those with arguments."""
    lines = [
        line.removeprefix("$ ")
        for language, text in fences(page)
        if language in SHELLS
        for line in text.replace("\\\n", " ").splitlines()
    ]
    inline = [code for code in INLINE.findall(prose(page)) if code.startswith("attendgen ") and "..." not in code]
    for line in [*lines, *(code for code in inline if len(code.split()) > 2)]:
        for words in split_shell(line):
            if "attendgen" in words:
                yield words[words.index("attendgen") + 1 :]


COMMANDS = sorted({(name_of(page), tuple(words)) for page in PAGES for words in find_commands(page)})
