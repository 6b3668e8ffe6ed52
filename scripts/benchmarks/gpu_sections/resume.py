"""Whether a resumed training ends with the weights of one that was not interrupted."""

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch

from attendgen.hydra_app.python import train
from gpu_sections.session import Row, Session
from gpu_sections.synthetic import train_family

FAMILIES = (
    "soft_7x7x1280",
    "lm_lstm",
    "luong_parallel",
    "small_cnn_pixels",
    "hard_9x9x1768",
    "bahdanau",
    "lm_context",
    "lm_transformer",
    "captioner_transformer",
)
QUIET = ("callbacks.progress=null", "callbacks.samples=null", "callbacks.best=null")


def measure_resume(session: Session) -> None:
    """Compare trainings, by default and with deterministic operations."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # for deterministic products; read when CUDA starts
    for family in FAMILIES[: session.choose(len(FAMILIES), 1)]:
        for deterministic in (True, False)[: session.choose(2, 1)]:
            session.attempt(
                family, partial(compare_runs, session, family, deterministic), least=4, deterministic=deterministic
            )


def compare_runs(session: Session, family: str, deterministic: bool) -> Row:
    """Train straight and with an interruption, by default also straight again; compare the last weights."""
    steps = session.choose(40, 4)
    options = [*QUIET, f"trainer.deterministic={str(deterministic).lower()}"]
    with tempfile.TemporaryDirectory(prefix="attendgen-gpu-") as name:
        folder = Path(name)
        straight = read_weights(train_family(family, folder / "a", session.quick, steps, *options))
        row: Row = {}
        if not deterministic:
            again = read_weights(train_family(family, folder / "b", session.quick, steps, *options))
            row = {f"repeated_{key}": value for key, value in compare_weights(straight, again).items()}
        resumed = train_family(family, folder / "c", session.quick, steps // 2, *options)
        train([f"resume={resumed}", f"steps={steps}"])
        found = compare_weights(straight, read_weights(resumed))
        return row | {f"resumed_{key}": value for key, value in found.items()}


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a run's last checkpoint."""
    checkpoint: Any = torch.load(folder / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)
    weights: dict[str, torch.Tensor] = checkpoint["state_dict"]
    return weights


def compare_weights(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> Row:
    """Return whether weights are equal bit for bit, which differs first, and the largest difference."""
    differing = [name for name, weight in first.items() if not torch.equal(weight, second[name])]
    gaps = [float((first[name].double() - second[name].double()).abs().max()) for name in differing]
    row: Row = {"identical": not differing}
    if differing:
        row |= {"first": differing[0], "differing": f"{len(differing)} of {len(first)}", "largest": max(gaps)}
    return row
