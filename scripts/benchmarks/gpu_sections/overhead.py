"""What Lightning and each callback add to a training step."""

import importlib.util
import tempfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from attendgen.callbacks.ema import EMA
from gpu_sections.families import build_task, make_batch
from gpu_sections.measure import TrainingStep, time_calls
from gpu_sections.session import Row, Session
from gpu_sections.synthetic import time_steps

# with work at each step
CALLBACKS = ("last", "learning_rate", "gradient_norm", "throughput", "samples", "progress")
FAMILIES = ("soft_7x7x1280", "lm_lstm")
PRECISION = "bf16-mixed"
VARIANTS: dict[str, tuple[str, ...]] = {
    "all callbacks": (),
    "callbacks=ema": ("callbacks=ema",),
    # a run without a checkpoint is an error
    "last alone": tuple(f"callbacks.{name}=null" for name in (*CALLBACKS[1:], "best", "early_stopping")),
}


def measure_overhead(session: Session) -> None:
    """Compare a bare loop with Lightning's, with and without each callback."""
    for family in FAMILIES[: session.choose(2, 1)]:
        session.attempt("average alone", partial(time_average, session, family), family=family)
        session.attempt("bare loop", partial(time_bare, session, family), family=family)
        for row, overrides in VARIANTS.items():
            session.attempt(row, partial(time_lightning, session, family, *overrides), family=family)
    if session.quick:
        return
    family = FAMILIES[0]
    for row in ("all callbacks", "callbacks=ema"):  # the first training may be slower than the next
        session.attempt(f"{row}, again", partial(time_lightning, session, family, *VARIANTS[row]), family=family)
    for callback in CALLBACKS:
        row = f"without {callback}"
        session.attempt(row, partial(time_lightning, session, family, f"callbacks.{callback}=null"), family=family)


def time_bare(session: Session, family: str) -> Row:
    """Return the milliseconds of a step of a bare loop."""
    task, config = build_task(family, session.quick)
    batch = make_batch(family, quick=session.quick)
    step = TrainingStep(task, batch, PRECISION, session.device, config.trainer.gradient_clip_val)
    return {"ms": round(time_calls(step, session.device, *session.choose((10, 60), (1, 2))), 3)}


def time_average(session: Session, family: str) -> Row:
    """Return the milliseconds that the average of the weights takes in a step; trainings differ by more than that."""
    task, _ = build_task(family, session.quick)
    task.to(session.device)
    average, trainer = EMA(), SimpleNamespace(global_step=0)
    average.on_fit_start(trainer, task)  # type: ignore[arg-type]  # of which it needs no more

    def update() -> None:
        trainer.global_step += 1
        average.on_train_batch_end(trainer, task, None, None, 0)  # type: ignore[arg-type]

    return {"ms": round(time_calls(update, session.device, *session.choose((10, 60), (1, 2))), 3)}


def time_lightning(session: Session, family: str, *overrides: str) -> Row:
    """Return the milliseconds of a step of `attendgen train`."""
    first, last = session.choose((20, 60), (1, 2))
    settings = [f"trainer.precision={PRECISION}"]
    if importlib.util.find_spec("matplotlib") is None:
        settings.append("callbacks.samples=null")
    with tempfile.TemporaryDirectory(prefix="attendgen-gpu-") as name:
        milliseconds = time_steps(family, Path(name) / "run", session.quick, first, last, *settings, *overrides)
    return {"ms": round(milliseconds, 3)}
