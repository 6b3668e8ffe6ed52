"""Whether training in half precision follows the one in single precision."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from gpu_sections.families import build_task, make_batch
from gpu_sections.measure import PRECISIONS, TrainingStep, set_precision
from gpu_sections.session import Row, Session

FAMILIES = ("soft_7x7x1280", "lm_lstm")
TRAININGS = ("fp32", "16-mixed", "bf16-mixed")
DIFFERENT = 8  # batches


def measure_half(session: Session) -> None:
    """Train in each precision, and compare gradients with those in double precision."""
    for family in FAMILIES[: session.choose(2, 1)]:
        expected: Row | None = None
        for precision in TRAININGS[: session.choose(3, 2)]:
            found = session.attempt(
                "training",
                partial(train_briefly, session, family, precision, expected),
                family=family,
                precision=precision,
            )
            expected = expected or found
        exact: dict[str, Any] = {}
        for precision in ("float64", *PRECISIONS):

            def compare(family: str = family, precision: str = precision, exact: Any = exact) -> Row:
                gradients = compute_gradients(session, family, precision)
                exact.setdefault("gradients", gradients)
                return compare_gradients(exact["gradients"], gradients)

            session.attempt("gradients", compare, family=family, precision=precision)


def train_briefly(session: Session, family: str, precision: str, expected: Row | None) -> Row:
    """Train for some steps; return the last losses, the skipped steps and the scale of the loss."""
    task, config = build_task(family, session.quick)
    batches = [make_batch(family, seed=seed, quick=session.quick) for seed in range(DIFFERENT)]
    step = TrainingStep(task, batches[0], precision, session.device, config.trainer.gradient_clip_val)
    moved = [move_data_to_device(batch, session.device) for batch in batches]
    losses: list[Tensor] = []
    skipped = 0
    for number in range(session.choose(200, 4)):
        torch.manual_seed(number)
        step.batch = moved[number % DIFFERENT]
        scale = step.scaler.get_scale()
        losses.append(step())
        skipped += step.scaler.get_scale() < scale
    values = torch.stack(losses).float().cpu()
    last = float(values[-3 * DIFFERENT :].mean())
    row: Row = {
        "finite": bool(values.isfinite().all()) and all(bool(p.isfinite().all()) for p in step.trained),
        "first_loss": round(float(values[:DIFFERENT].mean()), 5),
        "last_loss": round(last, 5),
        "skipped": skipped,
    }
    if precision == "16-mixed":
        row["scale"] = step.scaler.get_scale()
    if expected:
        row["loss_ratio"] = round(last / expected["last_loss"], 5)
    return row


def compute_gradients(session: Session, family: str, precision: str) -> dict[str, Tensor]:
    """Return the gradients of the first step without dropout, in double precision on the CPU."""
    task, _ = build_task(family, session.quick, dropout=False)
    batch: Any = make_batch(family, quick=session.quick)
    if precision == "float64":
        task.double()
        if hasattr(batch, "images"):
            batch = batch._replace(images=batch.images.double())
    step = TrainingStep(task, batch, precision if precision in PRECISIONS else "fp32", session.device)
    scale = 2.0**16 if precision == "16-mixed" else 1.0
    (step.compute_loss() * scale).backward()
    set_precision("tf32")
    named = task.named_parameters()
    return {name: (p.grad.double() / scale).cpu() for name, p in named if p.grad is not None}


def compare_gradients(exact: dict[str, Tensor], found: dict[str, Tensor]) -> Row:
    """Return the cosine of all gradients with the exact ones, the least of a parameter, and the ratio of the norms."""
    join: Callable[[dict[str, Tensor]], Tensor] = lambda parts: torch.cat([parts[name].flatten() for name in exact])  # noqa: E731
    cosines = {name: float(compute_cosine(exact[name], found[name])) for name in exact if exact[name].norm() > 0}
    worst = min(cosines, key=lambda name: cosines[name])
    whole = compute_cosine(join(exact), join(found))
    ratio = join(found).norm() / join(exact).norm()
    return {"cosine": float(whole), "least_cosine": cosines[worst], "of": worst, "norm_ratio": float(ratio)}


def compute_cosine(first: Tensor, second: Tensor) -> Tensor:
    """Return the cosine of the angle between two tensors, taken as vectors."""
    return (first * second).sum() / (first.norm() * second.norm())
