"""METEOR 1.5 (Denkowski and Lavie 2014) through the Java program that pycocoevalcap brings."""

import logging
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO, TypeVar

from attendgen.metrics.tokenization import tokenize
from attendgen.utils.errors import UserError

log = logging.getLogger(__name__)

Key = TypeVar("Key", bound=Hashable)

JAR = "meteor-1.5.jar"
TIME_LIMIT = 1800.0  # seconds for all captions; the program takes a minute for some thousands
ENDING = 10.0  # seconds that a program has to end after its last answer


class MeteorError(UserError):
    """METEOR's Java program is missing, cannot be started or failed; the message is one line with the reason."""


def is_java_present() -> bool:
    """Return whether METEOR can run here."""
    return shutil.which("java") is not None


def meteor(hypotheses: Mapping[Key, str], references: Mapping[Key, Sequence[str]]) -> float:
    """Compute corpus METEOR (0..1) of one caption per image, tokenized as the other caption scores are.

    Raises:
        MeteorError: Java is missing, or the program failed.
    """
    if not is_java_present():
        raise MeteorError("java: not found; METEOR needs a Java runtime")
    lines = []
    for key, hypothesis in hypotheses.items():
        # an empty caption is a blank between bars: it scores 0
        texts = [*(tokenize(reference) for reference in references[key]), tokenize(hypothesis)]
        lines.append(" ||| ".join(["SCORE", *(text.replace("|||", " ") for text in texts)]))
    try:
        with _program() as program:
            statistics = program.ask(lines, len(lines))
            *_, score = program.ask([" ||| ".join(["EVAL", *statistics])], len(lines) + 1)
    except OSError as error:  # it cannot be executed, or there is no room for its files
        raise MeteorError(f"java: cannot be started: {error.strerror or error}") from error
    if len(score.split()) > 1 or not 0 <= float(score) <= 1:
        raise MeteorError(f"java answered {score!r} instead of a score from 0 to 1")
    return float(score)


def score_meteor(hypotheses: Mapping[Key, str], references: Mapping[Key, Sequence[str]]) -> dict[str, float]:
    """Return METEOR by its name, or nothing if Java or pycocoevalcap is missing; log a warning if it fails."""
    if not is_java_present() or find_spec("pycocoevalcap") is None:
        log.info("METEOR is left out: it needs Java and the package pycocoevalcap")
        return {}
    try:
        return {"meteor": meteor(hypotheses, references)}
    except MeteorError as error:
        log.warning("METEOR is left out: %s", error)
        return {}


class _Program:
    """The running Java program, which answers each line with lines of numbers."""

    def __init__(self, process: subprocess.Popen[str], errors: Path) -> None:
        assert isinstance(process.stdin, TextIOWrapper)
        assert isinstance(process.stdout, TextIOWrapper)
        self.process = process
        self.questions, self.answers = process.stdin, process.stdout
        self.errors = errors
        self.late = False

    def ask(self, lines: Sequence[str], answers: int) -> list[str]:
        """Return the program's answers to lines.

        Raises:
            MeteorError: the program ended early, or an answer is not made of numbers.
        """
        # written from a thread: with thousands of captions both pipes would fill up
        writer = threading.Thread(target=_write, args=(self.questions, lines), daemon=True)
        writer.start()
        try:
            return [self._answer() for _ in range(answers)]
        except BaseException:  # Ctrl-C, too
            self.kill()  # the writer must not wait for a program that does not read
            raise
        finally:
            writer.join()

    def kill(self) -> None:
        """End the program and what it started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def stop_late(self) -> None:
        """End a program that has used up its time."""
        self.late = True
        self.kill()

    def _answer(self) -> str:
        line = self.answers.readline().strip()
        if not line:
            raise MeteorError(f"{self._ending()}{self._last_error()}")
        if not _are_numbers(line):
            raise MeteorError(f"java answered {line[:80]!r} instead of numbers{self._last_error()}")
        return line

    def _ending(self) -> str:
        """Say how the program ended."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(ENDING)
        code = self.process.poll()
        if self.late:
            return f"java was stopped: it did not finish within {TIME_LIMIT:g} seconds"
        if code is None:
            return "java stopped answering"
        return f"java was ended by {_signal_name(-code)}" if code < 0 else f"java ended with exit code {code}"

    def _last_error(self) -> str:
        """Return the last line of the program's standard error that is not a stack frame."""
        lines = self.errors.read_text(encoding="utf-8", errors="replace").splitlines()
        said = [line.strip() for line in lines if line.strip() and not line.startswith("\t")]
        return f": {said[-1][:200]}" if said else ""


@contextmanager
def _program() -> Iterator[_Program]:
    """Start the program; it ends with the block, however that ends."""
    spec = find_spec("pycocoevalcap.meteor.meteor")
    assert spec is not None
    assert spec.origin is not None
    home = Path(spec.origin).parent
    with tempfile.TemporaryDirectory(prefix="attendgen-meteor-") as folder:
        # the program finds its tables beside its own path, which may not contain a space, not even behind a link
        if " " in str(home):
            home = Path(shutil.copytree(home, Path(folder) / "meteor"))
        errors = Path(folder) / "stderr.txt"  # a file takes whatever is written; a full pipe would stop the program
        with errors.open("wb") as file:
            process = _start(home / JAR, file)
        program = _Program(process, errors)
        timer = threading.Timer(TIME_LIMIT, program.stop_late)
        timer.daemon = True
        timer.start()
        try:
            yield program
        finally:
            timer.cancel()
            program.kill()
            process.wait()
            program.answers.close()
            with suppress(BrokenPipeError):  # it died before it read everything: `_answer` has said so
                program.questions.close()


def _start(jar: Path, errors: BinaryIO) -> subprocess.Popen[str]:
    # by default the virtual machine reports on standard output, among the answers
    options = ["-XX:+DisplayVMOutputToStderr", "-Xmx2G"]
    command = ["java", *options, "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # so that what a wrapper script started ends with it
    )


def _write(questions: TextIOWrapper, lines: Sequence[str]) -> None:
    with suppress(BrokenPipeError):  # `_answer` reports that the program is gone
        for line in lines:
            questions.write(f"{line}\n")
        questions.flush()


def _are_numbers(line: str) -> bool:
    try:
        [float(part) for part in line.split()]
    except ValueError:
        return False
    return True


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
