"""The number of threads with which a training computes on a CPU."""

import contextlib
import copy
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from omegaconf import DictConfig

from attendgen.training.components import Components
from attendgen.utils.errors import UserError

log = logging.getLogger(__name__)

AUTO = "auto"
MOST = 1024  # threads; the system ends a process that asks for very many
LEAST_GAIN = 1.2  # how many times faster a step must be for all threads to be used
STEPS = 4  # timed with each number of threads; the fastest counts


@contextlib.contextmanager
def use_threads(count: object) -> Iterator[None]:
    """Let torch compute with this number of threads inside the block; None or "auto" leaves the choice for later.

    Raises:
        UserError: the count is neither, nor a whole number from 1 to `MOST`.
    """
    is_number = isinstance(count, int) and not isinstance(count, bool)
    if count not in (None, AUTO) and (not is_number or not 1 <= count <= MOST):  # type: ignore[operator]
        raise UserError(f"threads={count}: expected a whole number from 1 to {MOST}, auto, or null")
    before = torch.get_num_threads()
    torch.set_num_threads(count if isinstance(count, int) else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose_threads(config: DictConfig, components: Components) -> None:
    """Set the number of threads by what they gain in a training step, if the config says `threads: auto`.

    The number is written into the config: the run resumes with it, because sums depend on it.
    """
    if config.get("threads") != AUTO:
        return
    config.threads = None
    available = torch.get_num_threads()
    on_gpu = config.trainer.accelerator not in ("cpu", "auto") or (
        config.trainer.accelerator == "auto" and torch.cuda.is_available()
    )
    if on_gpu or available == 1:
        return
    try:
        step = make_step(components)
        seconds = {count: time_step(step, count) for count in (1, available)}
    except (RuntimeError, AttributeError, AssertionError) as error:  # of a loss that needs a trainer
        log.debug("threads: not measured: %s", error)
        torch.set_num_threads(available)
        return
    gain = seconds[1] / seconds[available]
    config.threads = available if gain >= LEAST_GAIN else 1
    torch.set_num_threads(config.threads)
    log.info("threads: %d (a step is %.1f times as fast with %d as with one)", config.threads, gain, available)


def make_step(components: Components) -> Callable[[], Any]:
    """Return a function that computes the gradients of a copy of the task on its first batch."""
    task = copy.deepcopy(components.task).train()
    with torch.random.fork_rng(devices=[]):
        batch = next(iter(components.data.train_dataloader()))
    batch = components.data.on_after_batch_transfer(batch, 0)

    def step() -> None:
        task.zero_grad()
        task.compute_loss(batch)[1].backward()

    return step


def time_step(step: Callable[[], Any], threads: int) -> float:
    """Return the least seconds that a step takes with a number of threads."""
    torch.set_num_threads(threads)
    seconds = []
    with torch.random.fork_rng(devices=[]):
        for _ in range(STEPS + 1):  # the first one warms up
            started = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - started)
    return min(seconds[1:])
