"""How a training step is measured: time, memory, work, kernel launches and synchronizations."""

import contextlib
import itertools
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from captioner import ByteCounter
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

PRECISIONS = ("fp32", "tf32", "bf16-mixed", "16-mixed")
SYNCHRONIZES = "called a synchronizing"  # PyTorch's warning
SLOW = 0.15  # seconds of a step of which fewer are timed
LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch")


class WorkCounter(ByteCounter):
    """Count operations, too, which are the launches if each has one kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), settings: Any = None) -> Any:
        self.operations += not function.is_view
        return super().__torch_dispatch__(function, types, arguments, settings)


def count_lstm_flops(inputs: Any, weights: Any, *rest: Any, **options: Any) -> int:
    """Return the operations of cuDNN's LSTM, of which PyTorch's counter does not know."""
    tokens = inputs[0] * (inputs[1] if len(inputs) == 3 else 1)
    return 2 * tokens * sum(shape[0] * shape[1] for shape in weights if len(shape) == 2)


def count_lstm_backward_flops(inputs: Any, weights: Any, *rest: Any, **options: Any) -> int:
    """Return the operations of the backward pass of cuDNN's LSTM."""
    return 2 * count_lstm_flops(inputs, weights)


LSTM_FLOPS = {
    torch.ops.aten._cudnn_rnn: count_lstm_flops,
    torch.ops.aten._cudnn_rnn_backward: count_lstm_backward_flops,
}


def set_precision(precision: str) -> None:
    """Choose single precision or TF32 for float32 products."""
    torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
    torch.backends.cudnn.allow_tf32 = precision != "fp32"


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Return the context in which Lightning computes the loss."""
    if precision not in ("bf16-mixed", "16-mixed"):
        return contextlib.nullcontext()
    is_half = precision == "16-mixed" and device.type == "cuda"  # a CPU lacks operations in float16
    dtype = torch.float16 if is_half else torch.bfloat16
    return torch.autocast(device.type, dtype, cache_enabled=False)


class TrainingStep:
    """A task's training step as Lightning takes it: loss, gradients, clipping, optimizer.

    Args:
        batch: on the CPU or on the device.
        clip: the largest norm of the gradients.
    """

    def __init__(self, task: Any, batch: Any, precision: str, device: torch.device, clip: float | None = None) -> None:
        set_precision(precision)
        self.task = task.to(device)
        self.batch = move_data_to_device(batch, device)
        self.precision = precision
        self.device = device
        self.clip = clip
        built = task.configure_optimizers()
        self.optimizer = built["optimizer"]
        self.scheduler = built["lr_scheduler"]["scheduler"]
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "16-mixed")
        self.trained = [parameter for parameter in task.parameters() if parameter.requires_grad]

    def compute_loss(self) -> Tensor:
        """Return the loss of the batch."""
        with autocast(self.precision, self.device):
            return self.task.training_step(self.batch, 0)

    def __call__(self) -> Tensor:
        """Take a step and return the loss."""
        self.optimizer.zero_grad()
        loss = self.compute_loss()
        self.scaler.scale(loss).backward()
        if self.clip:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.trained, self.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        return loss.detach()


def time_calls(work: Callable[[], object], device: torch.device, warm: int = 5, calls: int = 20) -> float:
    """Return the median milliseconds of a call, see `time_each`."""
    return statistics.median(time_each(work, device, warm, calls))


def time_each(work: Callable[[], object], device: torch.device, warm: int, calls: int) -> list[float]:
    """Return the milliseconds of calls without a wait between them, measured on the device."""
    for _ in range(warm):
        work()
    if device.type != "cuda":
        clock = [time.perf_counter()]
        for _ in range(calls):
            work()
            clock.append(time.perf_counter())
        return [1e3 * (after - before) for before, after in itertools.pairwise(clock)]
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(calls + 1)]
    torch.cuda.synchronize()
    marks[0].record()
    for mark in marks[1:]:
        work()
        mark.record()
    torch.cuda.synchronize()
    return [before.elapsed_time(after) for before, after in itertools.pairwise(marks)]


def count_work(work: Callable[[], object]) -> dict[str, float]:
    """Return the floating-point operations, the bytes of all but matrix products, and the operations of a call."""
    with WorkCounter() as counter, FlopCounterMode(display=False, custom_mapping=LSTM_FLOPS) as flops:
        work()
    return {"flops": flops.get_total_flops(), "bytes": counter.moved, "operations": counter.operations}


def count_launches(work: Callable[[], object], device: torch.device) -> dict[str, Any]:
    """Return the kernel launches of a call and the milliseconds that the device computed."""
    if device.type != "cuda":
        return {}
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        work()
        torch.cuda.synchronize()
    launches, busy = 0, 0.0
    for event in profiler.events() or ():
        launches += event.name.startswith(LAUNCHES)
        is_work = event.device_type == DeviceType.CUDA and not getattr(event, "is_user_annotation", 0)
        if is_work and not event.name.startswith("Optimizer."):
            busy += event.time_range.elapsed_us()
    return {"launches": launches, "busy_ms": round(busy / 1e3, 3)}


@contextlib.contextmanager
def count_syncs(device: torch.device) -> Iterator[Counter[str]]:
    """Yield a counter of the places where the block waits for the device, which is filled when the block ends."""
    places: Counter[str] = Counter()
    if device.type != "cuda":
        yield places
        return
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield places
        finally:
            torch.cuda.set_sync_debug_mode("default")
    for warning in caught:
        if SYNCHRONIZES in str(warning.message):
            parts = warning.filename.split("/")
            places["/".join(parts[-2:]) + f":{warning.lineno}"] += 1


def describe_syncs(places: Counter[str]) -> dict[str, Any]:
    """Return the number of synchronizations and where most of them are."""
    return {"syncs": sum(places.values()), "sync_places": [f"{n} x {place}" for place, n in places.most_common(4)]}


def measure_step(step: TrainingStep, warm: int, steps: int) -> dict[str, Any]:
    """Return the time, the memory, the work, the launches and the synchronizations of a training step."""
    step()
    started = time.perf_counter()
    step().item()
    if time.perf_counter() - started > SLOW:
        warm, steps = min(warm, 1), min(steps, 5)
    times = time_each(step, step.device, warm, steps)
    figures: dict[str, Any] = {"ms": round(statistics.median(times), 3), "least_ms": round(min(times), 3)}
    if step.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        step()
        figures["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    with count_syncs(step.device) as places:
        step()
    figures |= describe_syncs(places)
    for count in (lambda: count_launches(step, step.device), lambda: count_work(step)):
        try:  # the time counts even if a counter fails
            figures |= count()
        except Exception as error:
            figures["counter_error"] = f"{type(error).__name__}: {error}"[:200]
    return figures
