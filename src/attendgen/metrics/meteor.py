"""METEOR 1.5 (Denkowski and Lavie 2014) through the Java program that pycocoevalcap brings."""

import shutil
import subprocess
import tempfile
import threading
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from io import TextIOWrapper
from pathlib import Path
from typing import TypeVar

from attendgen.errors import UserError
from attendgen.metrics.captions import tokenise

Key = TypeVar("Key", bound=Hashable)

JAR = "meteor-1.5.jar"


def java_present() -> bool:
    """Whether METEOR can run here."""
    return shutil.which("java") is not None


def meteor(hypotheses: Mapping[Key, str], references: Mapping[Key, Sequence[str]]) -> float:
    """Corpus METEOR (0..1) of one caption a picture, tokenised as the other caption scores are.

    Raises:
        UserError: Java is missing, or the program failed.
    """
    if not java_present():
        raise UserError("java: not found; METEOR needs a Java runtime")
    lines = []
    for key, hypothesis in hypotheses.items():
        # an empty caption is a blank between bars: it scores 0
        texts = [*(tokenise(reference) for reference in references[key]), tokenise(hypothesis)]
        lines.append(" ||| ".join(["SCORE", *(text.replace("|||", " ") for text in texts)]))
    with _program() as (questions, answers):
        # written from a thread: with thousands of captions both pipes would fill up
        writer = threading.Thread(target=_ask, args=(questions, lines), daemon=True)
        writer.start()
        statistics = [_answer(answers) for _ in lines]
        writer.join()
        _ask(questions, [" ||| ".join(["EVAL", *statistics])])
        *_, score = [_answer(answers) for _ in range(len(lines) + 1)]
    try:
        return float(score)
    except ValueError as error:
        raise UserError(f"METEOR: unexpected answer {score!r}") from error


@contextmanager
def _program() -> Iterator[tuple[TextIOWrapper, TextIOWrapper]]:
    """The running program's input and output; it ends with the block, however that ends."""
    spec = find_spec("pycocoevalcap.meteor.meteor")
    assert spec is not None
    assert spec.origin is not None
    home = Path(spec.origin).parent
    with tempfile.TemporaryDirectory(prefix="attendgen-meteor-") as folder:
        # the program finds its tables beside its own path, in which it cannot bear a space, not even behind a link
        if " " in str(home):
            home = Path(shutil.copytree(home, Path(folder) / "meteor"))
        command = ["java", "-Xmx2G", "-jar", str(home / JAR), "-", "-", "-stdio", "-l", "en", "-norm"]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8"
        )
        assert isinstance(process.stdin, TextIOWrapper)
        assert isinstance(process.stdout, TextIOWrapper)
        try:
            yield process.stdin, process.stdout
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            with suppress(BrokenPipeError):  # it died before it read everything: `_answer` has said so
                process.stdin.close()


def _ask(questions: TextIOWrapper, lines: Sequence[str]) -> None:
    with suppress(BrokenPipeError, ValueError):  # `_answer` reports that the program is gone
        for line in lines:
            questions.write(f"{line}\n")
        questions.flush()


def _answer(answers: TextIOWrapper) -> str:
    line = answers.readline().strip()
    if not line or line.startswith("Error"):
        raise UserError(f"METEOR: the Java program failed: {line or 'it ended early'}")
    return line
