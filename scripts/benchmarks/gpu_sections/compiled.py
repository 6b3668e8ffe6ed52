"""What CUDA graphs and torch.compile save."""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.graphs import DecodingGraphs
from attendgen.layers import use_plain_autograd
from attendgen.layers.graphs import Record, copy_tensors
from attendgen.layers.state import map_tensors
from decoding import LENGTHS, build_families
from gpu_sections.decoding import run
from gpu_sections.families import FAMILIES, build_task, make_batch
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
    "table",
    "table_hard",
    "lm_context",
)
SEARCHES = (
    ("captioner", 5),
    ("captioner", 1),
    ("seq2seq", 5),
    ("seq2seq", 1),
    ("language model", 1),
    ("captioner_transformer", 5),
    ("seq2seq_transformer", 5),
    ("table", 5),
)
PRECISION = "bf16-mixed"
Decode = Callable[[DecodingGraphs | None], Tensor]


def measure_compiled(session: Session) -> None:
    """Compare captured training steps, recorded decoding steps and a compiled cell with plain ones."""
    if session.device.type == "cuda":
        row = "training step as a CUDA graph"
        for times in (1, 16):
            session.attempt(row, partial(graph_step, session, times), family=SOFT, times=times)
        for name in TRAINED:
            session.attempt("trainer.compile=true", partial(compile_training, session, name), family=name)
    for name, beam_size in SEARCHES[:: session.choose(1, 5)]:
        labels = {"family": name, "beam": beam_size}
        session.attempt("--compile", partial(compile_decoding, session, name, beam_size), least=5, **labels)
    session.attempt("cell compiled in training", partial(compile_cell, session), least=15, family=SOFT)


def compile_function(session: Session, function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function; on a CPU only trace it, because compiling takes long."""
    if session.device.type == "cuda":
        return torch.compile(function, dynamic=False)
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


def compile_decoding(session: Session, name: str, beam_size: int) -> Row:
    """Decode with recorded steps; compare it with plain decoding, whose products are made once."""
    set_precision("fp32")
    torch.manual_seed(0)
    make = prepare_task if name in FAMILIES else prepare_family
    decode = torch.inference_mode()(make(session, name, beam_size))
    graphs = DecodingGraphs(None if session.device.type == "cuda" else make_rerun_recorder)
    counts = session.choose((2, 10), (1, 1))
    expected = decode(None).cpu()
    plain = time_calls(lambda: decode(None), session.device, *counts)
    started = time.perf_counter()
    decode(graphs)
    found = decode(graphs).cpu()  # the second search records the steps
    seconds = time.perf_counter() - started
    fast = time_calls(lambda: decode(graphs), session.device, *counts)
    return report(plain, fast, seconds) | {
        "plain_outputs_per_second": round(1e3 * len(expected) / plain, 1),
        "outputs_per_second": round(1e3 * len(expected) / fast, 1),
        "graphs": sum(graphed.recorded for graphed in graphs.models.values()),
        "equal": float((found == expected).all(dim=-1).float().mean()),
    }


def prepare_family(session: Session, name: str, beam_size: int) -> Decode:
    """Return what decodes 64 inputs of a family of `decoding.py`."""
    lengths = session.choose([LENGTHS[0], 200, LENGTHS[2]], [4, 4, 4])
    family = build_families(lengths)[name]
    model = family.model.to(session.device).eval()
    inputs = family.make_inputs(session.choose(64, 2)).to(session.device)
    config = DecodingConfig(max_length=family.length, beam_size=beam_size)
    return lambda graphs: run(model, name, inputs, config, graphs)


def prepare_task(session: Session, name: str, beam_size: int) -> Decode:
    """Return what decodes 64 examples as the validation of a task does."""
    length = session.choose(14, 4)
    task = build_task(name, session.quick)[0].to(session.device).eval()
    given = make_batch(name, max(1, 64 // FAMILIES[name].batch), quick=session.quick)
    batch = move_data_to_device(given, session.device)
    if "index" in given._fields:
        batch = batch._replace(index=given.index)  # which the host alone reads, as a data module leaves it
    task.decoding = DecodingConfig(max_length=length, min_length=length, beam_size=beam_size)

    def decode(graphs: DecodingGraphs | None) -> Tensor:
        task.decoding_graphs = graphs
        return task.generate(batch).tokens[:, 0]

    return decode


def make_rerun_recorder() -> Record:
    """Return what stands for the recorder of CUDA graphs on a CPU: a function is called again."""

    def record(function: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        memory = map_tensors(torch.clone, function())
        return lambda: copy_tensors(memory, function()), memory

    return record
