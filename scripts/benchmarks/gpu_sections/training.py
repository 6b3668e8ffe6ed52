"""The training step of each family, by batch size and precision."""

from functools import partial
from typing import Any

from gpu_sections.families import FAMILIES, build_task, forget_state, get_family, make_batch, make_batch_reward
from gpu_sections.measure import PRECISIONS, TrainingStep, measure_step
from gpu_sections.session import Row, Session

IN_ALL_PRECISIONS = ("soft_7x7x1280", "luong_parallel", "lm_lstm")
QUICK = ("soft_7x7x1280", "scst_9x9x1768", "bahdanau", "table_hard", "lm_lstm")  # measured by --quick


def list_settings() -> list[tuple[str, int, str]]:
    """Return the family, multiple of the batch and precision of each row, the most important first."""
    settings = [
        (name, times, precision) for times in (1, 4, 16) for precision in PRECISIONS for name in IN_ALL_PRECISIONS
    ]
    others = [name for name in FAMILIES if name not in IN_ALL_PRECISIONS]
    settings += [(name, times, "bf16-mixed") for times in (1, 16) for name in others]
    return settings + [(name, times, "tf32") for times in (1, 16) for name in others if not name.startswith("scst")]


def measure_training(session: Session) -> None:
    """Measure all families."""
    tasks: dict[str, Any] = {}
    settings = list_settings()
    if session.quick:
        settings = [(name, 1, "bf16-mixed") for name in QUICK] + [("lm_lstm", 4, "16-mixed")]
    for name, times, precision in settings:
        session.attempt(
            name, partial(measure_family, session, tasks, name, times, precision), times=times, precision=precision
        )


def measure_family(session: Session, tasks: dict[str, Any], name: str, times: int, precision: str) -> Row:
    """Measure one family with one batch size in one precision."""
    if name not in tasks:
        tasks[name] = build_task(name, session.quick)
    task, config = tasks[name]
    batch = make_batch(name, times, quick=session.quick)
    if name.startswith("scst"):
        task.reward = make_batch_reward(batch, task.vocabulary)
    try:
        step = TrainingStep(task, batch, precision, session.device, config.trainer.gradient_clip_val)
        figures = measure_step(step, *session.choose((5, 20), (1, 1)))
    finally:
        task.zero_grad()
        forget_state(task)
        task.cpu()  # leave the memory to the other families
    examples = times * get_family(name, session.quick).batch
    tokens = int(batch.totals.tokens) if batch.totals else 0
    per_second = 1e3 / figures["ms"]
    rates = {"examples_per_second": examples * per_second, "tokens_per_second": tokens * per_second}
    return {"batch": examples, **{name: round(rate, 1) for name, rate in rates.items()}, **figures}
