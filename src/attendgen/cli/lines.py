"""Files of texts in, files of outputs out: one line for each line, decoded in batches."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from attendgen.cli.notes import UnknownTokens, report_search
from attendgen.utils.errors import UserError, format_some
from attendgen.utils.exit_codes import PARTLY
from attendgen.utils.lines import LineWriter, count_lines
from attendgen.utils.progress import Progress

CHUNK = 1024  # lines whose results are in memory together
REASONS = 2  # that the message about unread lines gives


def generate_file(model: Any, source: str, output: Path | None, resume: bool, decoding: dict[str, Any]) -> int:
    """Write one output for each line of a file, in order; memory does not grow with the file.

    A blank line gives a blank one, except for a language model, which begins a text. So does a line that the model
    cannot read; standard error names these lines at the end, and the reasons of the first ones.

    Args:
        model: one with `generate_all`, `encode_text` and `read_line_blocks`.
        source: a file, or "-" for standard input.
        output: a file; None for standard output.
        resume: go on after the lines that the output has.

    Returns:
        The exit code: 3 if there were lines that the model cannot read.

    Raises:
        UserError: a file cannot be read or written, the output has more lines than the input, or an option is wrong.
    """
    if getattr(model.make_decoding(decoding), "n_best", 1) > 1:
        raise UserError("--input: writes one output for each line; leave --n-best out")
    report_search(model, decoding)
    unread: dict[int, str] = {}
    tokens = UnknownTokens()
    with (
        LineWriter(output, resume) as writer,
        Progress("outputs", "lines", count_lines(source), writer.done) as progress,
    ):
        number = writer.done
        for lines in skip_lines(split_chunks(model.read_line_blocks(source)), writer.done, output):
            results, reasons = generate_lines(model, lines, decoding)
            writer.write(results)
            tokens.add(model, lines)
            unread |= {number + index + 1: reason for index, reason in reasons.items()}
            number += len(lines)
            progress.add(len(lines))
    tokens.report(get_unit(model))
    if unread:
        sys.stdout.flush()  # before the message, where both go to one place
        print(f"attendgen: {source}: {describe_unread(unread)}", file=sys.stderr)
    return PARTLY if unread else 0


def describe_unread(reasons: Mapping[int, str]) -> str:
    """Return which lines have no output, and why the first ones have none."""
    several = len(reasons) > 1
    lines = f"{len(reasons)} lines have no output: lines" if several else "1 line has no output: line"
    why = "; ".join(list(dict.fromkeys(reasons.values()))[:REASONS])
    return f"{lines} {format_some(list(reasons))}: {why}"


def get_unit(model: Any) -> str:
    """Return what the tokens of a model's inputs are called."""
    vocabulary = getattr(model.vocabulary, "source", model.vocabulary)
    return str(getattr(getattr(vocabulary, "tokenizer", None), "unit", "tokens"))


def split_chunks(blocks: Iterable[list[str]]) -> Iterator[list[str]]:
    """Yield blocks of lines in parts of `CHUNK` lines at most."""
    for lines in blocks:
        for start in range(0, len(lines), CHUNK):
            yield lines[start : start + CHUNK]


def skip_lines(blocks: Iterable[list[str]], count: int, output: Path | None) -> Iterator[list[str]]:
    """Yield blocks of lines without the first `count` lines, whose outputs exist.

    Raises:
        UserError: there are fewer lines.
    """
    left = count
    for lines in blocks:
        if left < len(lines):
            yield lines[left:]
        left = max(0, left - len(lines))
    if left:
        raise UserError(f"--output {output}: has {count} lines, the input only {count - left}; give another file")


def generate_lines(model: Any, lines: list[str], decoding: dict[str, Any]) -> tuple[list[str], dict[int, str]]:
    """Return the output of each line, and why the model cannot read some, whose output is empty, by their indices."""
    usable, unread = [], {}
    for index, line in enumerate(lines):
        try:
            model.encode_text(line)
        except UserError as error:
            if line.strip():
                unread[index] = str(error).removeprefix("text: ")
        else:
            usable.append(index)
    outputs = [""] * len(lines)
    for index, results in zip(usable, model.generate_all([lines[i] for i in usable], **decoding), strict=True):
        outputs[index] = results[0].text if results else ""
    return outputs, unread
