"""Section 3: what CUDA graphs and torch.compile save."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from attendgen.layers.state import fill_tokens, map_tensors
from attendgen.utils.special_tokens import SOS
from decoding import LENGTHS, build_families
from gpu_sections.families import build_task, forget_state, make_batch
from gpu_sections.measure import TrainingStep, set_precision, time_calls
from gpu_sections.session import Row, Session

SOFT = "soft_7x7x1280"
CAPTURED = ("luong_parallel", "lm_lstm", "seq2seq_transformer", "lm_transformer", "bahdanau", "small_cnn_pixels")
PRECISION = "bf16-mixed"


def measure_compiled(session: Session) -> None:
    """Compare captured training steps, a compiled attention and a compiled decoding step with plain ones."""
    if session.device.type == "cuda":
        row = "training step as a CUDA graph"
        for times in (1, 4, 16):
            session.attempt(row, partial(graph_step, session, SOFT, times), family=SOFT, times=times)
        for name in CAPTURED:
            session.attempt(row, partial(graph_step, session, name, 1), family=name, times=1)
    for name in ("captioner", "seq2seq")[: session.choose(2, 1)]:
        session.attempt("decoding step compiled", partial(compile_decoding, session, name), least=15, family=name)
    session.attempt("attention compiled in training", partial(compile_attention, session), least=15, family=SOFT)


def compile_function(session: Session, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Compile a function; on a CPU only trace it, because compiling takes long."""
    if session.device.type == "cuda":
        return torch.compile(function, dynamic=False, **options)
    return torch.compile(function, dynamic=False, backend="eager")


def make_step(session: Session, name: str = SOFT, times: int = 1) -> TrainingStep:
    """Return the training step of a family without dropout."""
    task, config = build_task(name, session.quick, dropout=False)
    batch = make_batch(name, times, quick=session.quick)
    return TrainingStep(task, batch, PRECISION, session.device, config.trainer.gradient_clip_val)


def run_passes(step: TrainingStep) -> Tensor:
    """Compute the loss and its gradients, of language models from their first state."""
    forget_state(step.task)
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


def graph_step(session: Session, name: str, times: int) -> Row:
    """Capture the forward and the backward pass as one CUDA graph, and replay it."""
    step = make_step(session, name, times)
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


def compile_attention(session: Session) -> Row:
    """Compile the attention weights of the captioner's decoder, which training computes at each step."""
    step = make_step(session)
    loss = run_passes(step).detach().clone()
    gradients = copy_gradients(step)
    counts = session.choose((5, 20), (1, 1))

    def run() -> None:
        step.optimizer.zero_grad()
        run_passes(step)

    plain = time_calls(run, session.device, *counts)
    attention = step.task.model.decoder.attention
    started = time.perf_counter()
    attention.weigh = compile_function(session, attention.weigh)
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
