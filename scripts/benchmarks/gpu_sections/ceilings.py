"""What the device can do at most, and the precision of cuDNN's LSTM."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from attendgen.layers.lstm import run_lstm
from gpu_sections.measure import set_precision, time_calls
from gpu_sections.session import Row, Session

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
LAUNCHES = 1000


def measure_ceilings(session: Session) -> None:
    """Measure products, a copy, launches and an LSTM."""
    session.attempt("device", partial(describe_device, session))
    for name, dtype in DTYPES.items():
        session.attempt(f"product {name}", partial(measure_product, session, name, dtype))
    session.attempt("copy", partial(measure_copy, session))
    session.attempt("launch", partial(measure_launch, session))
    for name, dtype in DTYPES.items():
        session.attempt(f"cudnn lstm {name}", partial(measure_lstm, session, name, dtype))
    session.attempt("lstm under autocast(bf16)", partial(find_lstm_dtypes, session))


def describe_device(session: Session) -> Row:
    """Return the names and versions of the device and its libraries."""
    row: Row = {"torch": torch.__version__, "threads": torch.get_num_threads(), "device": "cpu"}
    if session.device.type == "cuda":
        free, total = torch.cuda.mem_get_info()
        row |= {
            "device": torch.cuda.get_device_name(),
            "capability": ".".join(map(str, torch.cuda.get_device_capability())),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "memory_gb": round(total / 1e9, 1),
            "free_gb": round(free / 1e9, 1),
        }
    return row


def measure_product(session: Session, name: str, dtype: torch.dtype) -> Row:
    """Return the floating-point operations per second of a large square product."""
    set_precision(name)
    size = session.choose(8192, 128)
    left = torch.randn(size, size, device=session.device, dtype=dtype)
    milliseconds = time_calls(lambda: left @ left, session.device, 2, session.choose(10, 2))
    return {"ms": round(milliseconds, 3), "flops_per_second": 2 * size**3 / milliseconds * 1e3}


def measure_copy(session: Session) -> Row:
    """Return the bytes per second that a copy within the device's memory reads and writes."""
    source = torch.empty(session.choose(2**30, 2**16), device=session.device)  # 4 GB of float32
    target = torch.empty_like(source)
    milliseconds = time_calls(lambda: target.copy_(source), session.device, 2, session.choose(10, 2))
    return {"ms": round(milliseconds, 3), "bytes_per_second": 2 * source.nbytes / milliseconds * 1e3}


def measure_launch(session: Session) -> Row:
    """Return the microseconds of launching a kernel that does nearly nothing."""
    value = torch.zeros(1, device=session.device)
    count = session.choose(LAUNCHES, 10)

    def launch() -> None:
        for _ in range(count):
            value.add_(1)
        if session.device.type == "cuda":
            torch.cuda.synchronize()

    seconds = min(time_once(launch) for _ in range(5))
    return {"microseconds": round(1e6 * seconds / count, 3)}


def time_once(work: Callable[[], object]) -> float:
    """Return the seconds of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure_lstm(session: Session, name: str, dtype: torch.dtype) -> Row:
    """Return the milliseconds of a forward and a backward pass of an LSTM: batch 64, 128 steps, 512 units."""
    set_precision(name)
    batch, time_steps, units = session.choose((64, 128, 512), (2, 3, 4))
    if session.device.type == "cpu" and dtype == torch.float16:
        dtype = torch.float32
    lstm = nn.LSTM(units, units, batch_first=True).to(session.device, dtype)
    inputs = torch.randn(batch, time_steps, units, device=session.device, dtype=dtype, requires_grad=True)

    def step() -> None:
        lstm(inputs)[0].sum().backward()

    return {"ms": round(time_calls(step, session.device, 3, session.choose(10, 2)), 3)}


def find_lstm_dtypes(session: Session) -> Row:
    """Return the dtypes of an LSTM's output under autocast to bfloat16: PyTorch's own, and of `run_lstm`."""
    lstm: Any = nn.LSTM(8, 8, batch_first=True).to(session.device)
    inputs = torch.randn(2, 3, 8, device=session.device)
    with torch.autocast(session.device.type, torch.bfloat16):
        plain, ours = lstm(inputs)[0].dtype, run_lstm(lstm, inputs)[0].dtype
    return {"pytorch": str(plain).removeprefix("torch."), "run_lstm": str(ours).removeprefix("torch.")}
