"""Trainings by DistributedDataParallel in one process, over NCCL."""

import os
import tempfile
from functools import partial
from pathlib import Path

from attendgen.hydra_app.python import train
from gpu_sections.resume import QUIET, compare_weights, read_weights
from gpu_sections.session import Row, Session
from gpu_sections.synthetic import time_steps, train_family, trust_this_package

FAMILIES = ("lm_lstm", "small_cnn_pixels", "soft_7x7x1280")


def measure_ddp(session: Session) -> None:
    """Time trainings with and without DDP, resume one, and train a real experiment."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # for deterministic products; read when CUDA starts
    session.attempt("resume lm_lstm", partial(resume, session), least=6)
    session.attempt("toy_chat", partial(train_toy_chat, session), least=4)
    for family in FAMILIES[: session.choose(3, 1)]:
        session.attempt(family, partial(compare_times, session, family), least=4)


def list_options(session: Session) -> list[str]:
    """Return the overrides of one process that uses DDP."""
    return ["trainer=ddp", "trainer.devices=1", f"trainer.accelerator={session.choose('gpu', 'cpu')}"]


def compare_times(session: Session, family: str) -> Row:
    """Return the milliseconds per step with and without DDP."""
    row: Row = {}
    first, last = session.choose((20, 60), (1, 3))
    for name, options in (("plain_ms", []), ("ms", list_options(session))):
        with tempfile.TemporaryDirectory(prefix="attendgen-gpu-") as folder:
            settings = [*QUIET, "trainer.precision=bf16-mixed", *options]
            row[name] = round(time_steps(family, Path(folder) / "run", session.quick, first, last, *settings), 3)
    return row


def resume(session: Session) -> Row:
    """Return whether a resumed training with DDP ends with the weights of one that was not interrupted."""
    steps, options = session.choose(20, 2), [*QUIET, "trainer.deterministic=true", *list_options(session)]
    with tempfile.TemporaryDirectory(prefix="attendgen-gpu-") as name:
        straight = train_family("lm_lstm", Path(name) / "a", session.quick, steps, *options)
        resumed = train_family("lm_lstm", Path(name) / "b", session.quick, steps // 2, *options)
        train([f"resume={resumed}", f"steps={steps}"])
        return compare_weights(read_weights(straight), read_weights(resumed))


def train_toy_chat(session: Session) -> Row:
    """Train and validate toy_chat, the experiment whose data comes with the repository."""
    with tempfile.TemporaryDirectory(prefix="attendgen-gpu-") as name:
        trust_this_package(Path(name))
        settings = [f"hydra.run.dir={name}/run", "logger=csv", "task.metrics=[]", "monitor.metric=val/cross_entropy"]
        epochs = session.choose(20, 1)
        settings += ["monitor.mode=min", f"epochs={epochs}", "callbacks.samples=null", "callbacks.progress=null"]
        found = train(["experiment=toy_chat", *settings, *list_options(session)])
        return {"saved": found.checkpoint.name}
