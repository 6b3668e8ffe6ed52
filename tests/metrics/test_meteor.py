"""METEOR against pycocoevalcap's own wrapper."""

import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from attendgen.metrics import meteor as module
from attendgen.metrics.meteor import MeteorError, meteor
from attendgen.metrics.tokenization import tokenize

pytestmark = pytest.mark.java
java = pytest.mark.skipif(shutil.which("java") is None, reason="no Java")

HYPOTHESES = {1: "A dog runs fast.", 2: "Two men are sitting on a bench", 3: "zzz qqq", "four": "A child's red hat !"}
REFERENCES = {
    1: ["The dog is running.", "A brown dog runs quickly through the grass", "a dog ||| runs"],
    2: ["Two people sit on a bench.", "Men seated outside"],
    3: ["A cat sleeps."],
    "four": ["A hat of a child", "the red hat belongs to the children"],
}


@pytest.mark.slow
@java
def test_equals_pycocoevalcaps_wrapper() -> None:
    from pycocoevalcap.meteor.meteor import Meteor

    theirs = Meteor()
    references = {key: [tokenize(text).replace("|||", " ") for text in texts] for key, texts in REFERENCES.items()}
    expected, _ = theirs.compute_score(references, {key: [tokenize(text)] for key, text in HYPOTHESES.items()})
    found = meteor(HYPOTHESES, REFERENCES)
    assert 0.1 < found < 1
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
@java
def test_an_empty_caption_scores_zero() -> None:
    assert meteor({1: "."}, {1: ["A dog runs."]}) == 0.0
    assert 0 < meteor({**HYPOTHESES, 3: ""}, REFERENCES) < 1


@pytest.mark.slow
@java
def test_the_package_may_be_in_a_folder_with_a_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.find_spec("pycocoevalcap.meteor.meteor")
    folder = shutil.copytree(Path(spec.origin).parent, tmp_path / "site packages" / "meteor")
    monkeypatch.setattr(module, "find_spec", lambda name: SimpleNamespace(origin=str(folder / "meteor.py")))
    assert 0 < meteor(HYPOTHESES, REFERENCES) < 1


# answers as the program does: 0.5 for each line and 0.25 for the corpus
WORKING = """
while read -r line; do
  case $line in
    SCORE*) lines=$((lines + 1)); echo 3.0 2.0 1.0;;
    EVAL*) while [ $lines -gt 0 ]; do lines=$((lines - 1)); echo 0.5; done; echo 0.25;;
  esac
done
"""
MANY = dict.fromkeys(range(5000), "a dog runs over the long grass")  # more than a pipe's buffer holds


@pytest.fixture
def fake_java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Put a shell script on the PATH as `java`; it writes its process id to `pid`."""

    def fake(script: str, interpreter: str = "/bin/sh") -> None:
        program = tmp_path / "java"
        program.write_text(f"#!{interpreter}\necho $$ > {tmp_path}/pid\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return fake


def assert_ended(folder: Path) -> None:
    with pytest.raises(ProcessLookupError):
        os.kill(int((folder / "pid").read_text()), 0)


def get_error(hypotheses: dict[int, str]) -> str:
    with pytest.raises(MeteorError) as caught:
        meteor(hypotheses, {key: ["a dog runs"] for key in hypotheses})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_java_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    with pytest.raises(MeteorError, match="java: not found"):
        meteor(HYPOTHESES, REFERENCES)


@pytest.mark.parametrize("noise", ["", "head -c 1000000 /dev/zero >&2; echo >&2"])
def test_the_last_answer_is_the_score(fake_java, tmp_path: Path, noise: str) -> None:
    fake_java(noise + WORKING)
    assert meteor(HYPOTHESES, REFERENCES) == 0.25
    assert meteor(MANY, {key: ["a dog runs"] for key in MANY}) == 0.25
    assert_ended(tmp_path)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 3", "java ended with exit code 3"),
        ("echo no memory >&2; exit 1", "java ended with exit code 1: no memory"),
        (
            "printf 'OutOfMemoryError\\n\\tat Meteor.main\\n' >&2; exit 1",
            "java ended with exit code 1: OutOfMemoryError",
        ),
        ("read -r line; echo 1 2; exit 0", "java ended with exit code 0"),
        ("read -r line; echo 1 2; kill -9 $$", "java was ended by SIGKILL"),
        ("while read -r line; do echo Error: no; done", "java answered 'Error: no' instead of numbers"),
        ("echo odd >&2; while read -r line; do printf '\\377 1\\n'; done", "instead of numbers: odd"),
        (WORKING.replace("0.25", "NaN"), "java answered 'NaN' instead of a score"),
        ("while read -r line; do echo 1 2; echo 1 2; done", "java answered '1 2' instead of a score"),
        (WORKING.replace("0.25", "x"), "java answered 'x' instead of numbers"),
        ("exec >&-; exec sleep 600", "java stopped answering"),
    ],
)
@pytest.mark.parametrize("hypotheses", [{1: "a dog", 2: "a cat"}, MANY], ids=["few", "many"])
def test_a_program_that_fails_is_reported(fake_java, tmp_path: Path, monkeypatch, script, said, hypotheses) -> None:
    monkeypatch.setattr(module, "ENDING", 0.1 if "sleep" in script else 30)
    fake_java(script)
    assert said in get_error(hypotheses)
    assert_ended(tmp_path)


def test_a_program_that_cannot_be_executed_is_reported(fake_java, tmp_path: Path, monkeypatch) -> None:
    fake_java("", interpreter="/nowhere/sh")
    monkeypatch.setenv("PATH", str(tmp_path))  # no other Java behind it
    assert "java: cannot be started: No such file" in get_error({1: "a dog"})


@pytest.mark.parametrize("script", ["exec sleep 600", "sleep 600"])  # the second is a child of the shell
def test_a_program_that_does_not_answer_is_stopped(fake_java, tmp_path: Path, monkeypatch, script: str) -> None:
    monkeypatch.setattr(module, "TIME_LIMIT", 0.5)
    fake_java(script)
    assert "did not finish within 0.5 seconds" in get_error(MANY)
    assert_ended(tmp_path)


def test_an_interrupt_ends_the_program(fake_java, tmp_path: Path, monkeypatch) -> None:
    read = module._Program._answer

    def interrupted(program: module._Program) -> str:
        read(program)
        raise KeyboardInterrupt

    monkeypatch.setattr(module._Program, "_answer", interrupted)
    fake_java("read -r line; echo 1 2; exec sleep 600")
    with pytest.raises(KeyboardInterrupt):
        meteor(MANY, {key: ["a dog runs"] for key in MANY})
    assert_ended(tmp_path)
