"""What CUDA graphs and torch.compile save."""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attendgen.layers import use_plain_autograd
from attendgen.layers.state import fill_tokens, map_tensors
from attendgen.utils.special_tokens import SOS
from decoding import LENGTHS, build_families
from gpu_sections.families import build_task, make_batch
from gpu_sections.measure import TrainingStep, set_precision, time_calls
from gpu_sections.resume import QUIET
from gpu_sections.session import Row, Session
from gpu_sections.synthetic import time_steps

SOFT = "soft_7x7x1280"
TRAINED = (
    SOFT,
    "lm_lstm",
    "luong_parallel",
    "captioner_transformer",
    "hard_9x9x1768",
    "bahdanau",
    "lm_transformer",
    "luong_feeding",
    "seq2seq_transformer",
    "small_cnn_pixels",
    "lm_textgenerate",
    "lm_lstm_window",
)
PRECISION = "bf16-mixed"


def measure_compiled(session: Session) -> None:
    """Compare captured training steps, a compiled cell and a compiled decoding step with plain ones."""
    if session.device.type == "cuda":
        row = "training step as a CUDA graph"
        for times in (1, 16):
            session.attempt(row, partial(graph_step, session, times), family=SOFT, times=times)
        for name in TRAINED:
            session.attempt("trainer.compile=true", partial(compile_training, session, name), family=name)
    for name in ("captioner", "seq2seq")[: session.choose(2, 1)]:
        session.attempt("decoding step compiled", partial(compile_decoding, session, name), least=15, family=name)
    session.attempt("cell compiled in training", partial(compile_cell, session), least=15, family=SOFT)


def compile_function(session: Session, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Compile a function; on a CPU only trace it, because compiling takes long."""
    if session.device.type == "cuda":
        return torch.compile(function, dynamic=False, **options)
    return torch.compile(function, dynamic=False, backend="eager")


def compile_training(session: Session, name: str) -> Row:
    """Return the milliseconds per step of `attendgen train` with and without `trainer.compile`."""
    times = []
    for compiles in ("false", "true"):
        with tempfile.TemporaryDirectory(prefix="attendgen-gpu-") as folder:
            settings = [*QUIET, f"trainer.precision={PRECISION}", f"trainer.compile={compiles}"]
            times.append(time_steps(name, Path(folder) / "run", session.quick, 20, 60, *settings))
    return {"plain_ms": round(times[0], 3), "ms": round(times[1], 3), "gain": round(times[0] / times[1], 2)}


def make_step(session: Session, times: int = 1) -> TrainingStep:
    """Return the captioner's training step without dropout."""
    task, config = build_task(SOFT, session.quick, dropout=False)
    batch = make_batch(SOFT, times, quick=session.quick)
    return TrainingStep(task, batch, PRECISION, session.device, config.trainer.gradient_clip_val)


def run_passes(step: TrainingStep) -> Tensor:
    """Compute the loss and its gradients."""
    loss = step.compute_loss()
    loss.backward()
    return loss


def copy_gradients(step: TrainingStep) -> Tensor:
    """Return all gradients as one vector."""
    return torch.cat([p.grad.flatten().float() for p in step.trained if p.grad is not None])


def compare(loss: Tensor, gradients: Tensor, step: TrainingStep, found: Tensor) -> Row:
    """Return how far a loss and its gradients are from others, as shares."""
    gap = (copy_gradients(step) - gradients).norm() / gradients.norm()
    return {"loss_gap": float((found - loss).abs() / loss.abs()), "gradient_gap": float(gap)}


def graph_step(session: Session, times: int) -> Row:
    """Capture the forward and the backward pass as one CUDA graph, and replay it."""
    step = make_step(session, times)
    loss = run_passes(step).detach().clone()
    gradients = copy_gradients(step)

    def run_plain() -> None:
        step.optimizer.zero_grad()
        run_passes(step)

    plain = time_calls(run_plain, session.device)
    started = time.perf_counter()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run_plain()
    torch.cuda.current_stream().wait_stream(side)
    step.optimizer.zero_grad()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = run_passes(step)
    torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    graph.replay()
    torch.cuda.synchronize()
    row = compare(loss, gradients, step, captured.detach())
    replayed = time_calls(graph.replay, session.device)
    return report(plain, replayed, seconds) | row


def report(plain: float, fast: float, seconds: float) -> Row:
    """Return the milliseconds of both ways, the gain, and the seconds until the fast one is ready."""
    return {
        "plain_ms": round(plain, 3),
        "ms": round(fast, 3),
        "gain": round(plain / fast, 2),
        "compile_seconds": round(seconds, 1),
    }


def compile_cell(session: Session) -> Row:
    """Compile the step of the captioner's decoder that follows the equations; compare it with the fast path."""
    step = make_step(session)
    loss = run_passes(step).detach().clone()
    gradients = copy_gradients(step)
    counts = session.choose((5, 20), (1, 1))

    def run() -> None:
        step.optimizer.zero_grad()
        run_passes(step)

    plain = time_calls(run, session.device, *counts)
    use_plain_autograd(step.task.model)
    decoder = step.task.model.decoder
    started = time.perf_counter()
    decoder.attend_step = compile_function(session, decoder.attend_step)
    step.optimizer.zero_grad()
    found = run_passes(step).detach()
    row = compare(loss, gradients, step, found)
    seconds = time.perf_counter() - started
    return report(plain, time_calls(run, session.device, *counts), seconds) | row


@torch.no_grad()
def compile_decoding(session: Session, name: str) -> Row:
    """Compile a model's decoding step for a fixed number of rows, as CUDA graphs."""
    set_precision("fp32")
    torch.manual_seed(0)
    model, make_inputs, length = build_families(session.choose(list(LENGTHS), [3, 3, 3]))[name]
    model.to(session.device).eval()
    memory, state = model.encode(make_inputs(session.choose(64, 2)).to(session.device))
    step = compile_function(session, model.step, mode="reduce-overhead")

    def decode(call: Callable[..., Any], is_compiled: bool) -> Tensor:
        tokens, now, chosen = fill_tokens(state, SOS), state, []
        for _ in range(length):
            if is_compiled and session.device.type == "cuda":
                torch.compiler.cudagraph_mark_step_begin()
            log_probs, _, now = call(tokens, now, memory)
            tokens = log_probs.argmax(dim=-1)
            now = map_tensors(torch.clone, now)  # the next replay overwrites its outputs
            chosen.append(tokens)
        return torch.stack(chosen, dim=1)

    counts = session.choose((2, 10), (1, 1))
    expected = decode(model.step, False)
    plain = time_calls(lambda: decode(model.step, False), session.device, *counts)
    started = time.perf_counter()
    found = decode(step, True)
    decode(step, True)  # the second call records the graphs
    seconds = time.perf_counter() - started
    fast = time_calls(lambda: decode(step, True), session.device, *counts)
    return report(plain / length, fast / length, seconds) | {"equal": float((found == expected).float().mean())}
