"""Decoding steps that are recorded once per shape and replayed; without a GPU a function's rerun stands for a graph."""

import logging
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from attendgen.decoding import graphs as graphs_module
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.graphs import DecodingGraphs, GraphedModel
from attendgen.decoding.protocol import Decoded
from attendgen.layers.state import fill_tokens, map_tensors
from attendgen.models.ensemble import Ensemble
from attendgen.runs.run import convert_precision
from attendgen.utils.special_tokens import SOS
from helpers.decoded_families import DECODED, MODES
from helpers.families import Training, make_captioner, make_training
from helpers.pretended_gpu import pretend_training, pretended_gpu
from helpers.rerun import RerunRecorder, make_refusing_recorder

SHORT = {name: replace(mode, max_length=4) for name, mode in MODES.items()}
EVERY_MODE = ("captioner", "lm, lstm", "ensemble of translators")
CASES = [(name, mode) for name in DECODED for mode in (MODES if name in EVERY_MODE else ("beam",))]


def decode(training: Training, config: DecodingConfig, graphs: DecodingGraphs | None) -> Decoded:
    """Return what a model decodes for a batch."""
    task, batch = training
    task.eval().decoding, task.decoding_graphs = config, graphs
    return task.generate(batch)


def assert_equal(found: Decoded, expected: Decoded) -> None:
    assert torch.equal(found.tokens, expected.tokens)
    torch.testing.assert_close(tuple(found[1:]), tuple(expected[1:]), rtol=1e-5, atol=1e-5)


@pytest.fixture
def recorder() -> RerunRecorder:
    return RerunRecorder()


@pytest.fixture
def graphs(recorder: RerunRecorder) -> DecodingGraphs:
    return DecodingGraphs(lambda: recorder)


def start(training: Training, graphs: DecodingGraphs, rows: int | None = None) -> tuple[GraphedModel, Any, Any, Any]:
    """Return a model to step with, first tokens, the first state, and the memory."""
    task, batch = training
    inputs = batch.images if hasattr(batch, "images") else batch.source
    with torch.no_grad():
        memory, state = task.eval().model.encode(inputs[:rows])
    return graphs.start(task.model), fill_tokens(state, SOS), state, memory


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_replayed_steps_decode_the_same(name: str, mode: str, graphs: DecodingGraphs, recorder: RerunRecorder) -> None:
    training = make_training(name, DECODED)
    expected = decode(training, SHORT[mode], None)
    for _ in range(3):
        assert_equal(decode(training, SHORT[mode], graphs), expected)
    assert recorder.replayed > recorder.recorded > 0


def test_inputs_of_the_same_shapes_have_their_own_outputs(graphs: DecodingGraphs) -> None:
    task, batch = make_training("captioner", DECODED)
    others = batch._replace(images=batch.images.flip(0) + 1)
    expected = [decode(Training(task, part), SHORT["beam"], None) for part in (batch, others)]
    assert not torch.allclose(expected[0].scores, expected[1].scores)
    for _ in range(3):
        for part, wanted in zip((batch, others), expected, strict=True):
            assert_equal(decode(Training(task, part), SHORT["beam"], graphs), wanted)


def test_what_a_step_returned_is_left_alone_by_later_steps(graphs: DecodingGraphs, recorder: RerunRecorder) -> None:
    with torch.inference_mode():
        model, tokens, state, memory = start(make_training("seq2seq, bahdanau", DECODED), graphs)
        expected = [model.model.step(tokens + step, state, memory) for step in range(4)]
        found = [model.step(tokens + step, state, memory) for step in range(4)]
    assert recorder.replayed == 3
    torch.testing.assert_close(found, expected)


def test_a_memory_is_copied_once_for_all_steps_of_a_search(graphs: DecodingGraphs) -> None:
    training = make_training("captioner", DECODED)
    with torch.inference_mode():
        model, tokens, state, memory = start(training, graphs)
        for _ in range(3):
            model.step(tokens, state, memory)
        memory.values.mul_(2)  # which no search does
        before = model.step(tokens, state, memory)
        graphs.start(training.task.model)  # another search
        after = model.step(tokens, state, memory)
        torch.testing.assert_close(after, model.model.step(tokens, state, memory))
    assert not torch.allclose(before[0], after[0])


def test_weights_that_change_in_place_are_seen(graphs: DecodingGraphs, recorder: RerunRecorder) -> None:
    training = make_training("captioner", DECODED)
    for _ in range(2):
        decode(training, SHORT["beam"], graphs)
    recorded = recorder.recorded
    changed = {name: 2 * weight for name, weight in training.task.state_dict().items()}
    training.task.load_state_dict(changed)
    assert_equal(decode(training, SHORT["beam"], graphs), decode(training, SHORT["beam"], None))
    assert recorder.recorded == recorded


def test_weights_that_move_are_recorded_anew(graphs: DecodingGraphs, recorder: RerunRecorder) -> None:
    training = make_training("captioner", DECODED)
    first = graphs.start(training.task.eval().model)
    assert graphs.start(training.task.model) is first
    training.task.model.output.weight = torch.nn.Parameter(2 * training.task.model.output.weight)
    assert graphs.start(training.task.model) is not first


def test_an_ensemble_with_other_weights_is_recorded_anew(graphs: DecodingGraphs) -> None:
    ensemble: Any = make_training("ensemble of translators", DECODED).task.model
    models = (ensemble, Ensemble([lambda: ensemble]))  # also as a member of another one
    before = [graphs.start(model) for model in models]
    assert [graphs.start(model) for model in models] == before
    ensemble.weights[0] = 0.5
    assert not any(graphs.start(model) is first for model, first in zip(models, before, strict=True))


def test_a_model_that_is_no_module_is_not_recorded(graphs: DecodingGraphs, recorder: RerunRecorder) -> None:
    model, *inputs = start(make_training("captioner", DECODED), graphs)
    plain = graphs.start(SimpleNamespace(step=model.model.step))
    for _ in range(3):
        torch.testing.assert_close(plain.step(*inputs), model.model.step(*inputs))
    assert recorder.recorded == 0


def test_a_model_on_the_cpu_is_decoded_from_plainly() -> None:
    training, graphs = make_training("captioner", DECODED), DecodingGraphs()
    assert_equal(decode(training, SHORT["beam"], graphs), decode(training, SHORT["beam"], None))
    assert not graphs.models


def test_replays_serve_inside_and_outside_of_inference_mode(graphs: DecodingGraphs, recorder: RerunRecorder) -> None:
    training = make_training("captioner", DECODED)
    with torch.inference_mode():
        model, tokens, state, memory = start(training, graphs)
        for _ in range(2):
            expected = model.step(tokens, state, memory)
    with torch.no_grad():
        torch.testing.assert_close(model.step(*map_tensors(torch.clone, (tokens, state, memory))), expected)
    assert recorder.replayed == 2


def test_a_step_that_cannot_be_recorded_is_computed_plainly(caplog: pytest.LogCaptureFixture) -> None:
    training = make_training("captioner", DECODED)
    graphs = DecodingGraphs(make_refusing_recorder)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert_equal(decode(training, SHORT["beam"], graphs), decode(training, SHORT["beam"], None))
    (message,) = caplog.messages
    assert message == (
        "a decoding step of Captioner cannot be recorded as a CUDA graph and is computed plainly "
        "(called a synchronizing CUDA operation)"
    )


@pytest.mark.parametrize("name", ["captioner", "seq2seq, luong", "table", "lm, lstm", "lm, transformer"])
def test_weights_in_half_precision(name: str, graphs: DecodingGraphs, recorder: RerunRecorder) -> None:
    training = make_training(name, DECODED)
    convert_precision(training.task.model.eval(), "bf16")
    expected = decode(training, SHORT["beam"], DecodingGraphs(make_refusing_recorder))
    for _ in range(3):
        assert_equal(decode(training, SHORT["beam"], graphs), expected)
    assert recorder.replayed > 0


@pytest.mark.parametrize(("limit", "most", "recorded"), [("MAX_GRAPHS", 2, 2), ("MAX_BYTES", 1, 1)])
def test_steps_beyond_the_limits_are_computed_plainly(
    limit: str,
    most: int,
    recorded: int,
    graphs: DecodingGraphs,
    recorder: RerunRecorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(graphs_module, limit, most)
    training = make_training("captioner, transformer", DECODED)  # whose state grows
    expected = decode(training, MODES["greedy"], None)
    for _ in range(3):
        assert_equal(decode(training, MODES["greedy"], graphs), expected)
    assert recorder.recorded == recorded
    assert recorder.replayed == 2 * recorded


def test_recording_draws_no_random_numbers(graphs: DecodingGraphs, recorder: RerunRecorder) -> None:
    model, tokens, state, memory = start(make_training("captioner", DECODED), graphs)
    model.model.step = lambda *inputs: (torch.rand(2, 3), torch.rand(2, 3), state)
    torch.manual_seed(0)
    expected = [torch.rand(2, 3) for _ in range(5)]
    torch.manual_seed(0)
    found = [*model.step(tokens, state, memory)[:2], *model.step(tokens, state, memory)[:2], torch.rand(2, 3)]
    assert recorder.replayed == 1
    torch.testing.assert_close(found, expected)


def test_a_failed_recording_draws_no_random_numbers() -> None:
    calls = []

    def draw_and_fail(function: Any) -> Any:
        calls.append(function())  # draws locations
        raise RuntimeError("called a synchronizing CUDA operation")

    training = make_training("sampled", {"sampled": partial(make_captioner, inference_attention="sample")})
    found = []
    for kept in (None, DecodingGraphs(lambda: draw_and_fail)):
        torch.manual_seed(0)
        found.append(decode(training, replace(SHORT["sampling"], seed=None, min_length=4), kept))
    assert len(calls) == 1
    assert_equal(found[1], found[0])


@pytest.fixture
def _no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the state of a GPU's random numbers be that of the CPU: the functions of PyTorch ask for a driver."""
    monkeypatch.setattr(torch.cuda, "device_of", lambda tensor: nullcontext())
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.get_rng_state())
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: torch.set_rng_state(state))


@pytest.mark.usefixtures("_no_driver")
@pytest.mark.parametrize("mode", ["greedy", "beam"])
def test_replays_do_not_make_the_host_wait(mode: str, graphs: DecodingGraphs, recorder: RerunRecorder) -> None:
    config = replace(MODES[mode], max_length=8, min_length=8)
    training = make_training("captioner", DECODED)
    waits = []
    with pretended_gpu() as record:
        there = pretend_training(training)
        for kept in (None, graphs, graphs):
            record.waits.clear()
            found = decode(there, config, kept)
            waits.append(record.waits.total())
    assert waits[2] <= waits[0]
    assert recorder.replayed > recorder.recorded
    assert_equal(map_tensors(lambda part: part.held, found), decode(training, config, None))


@pytest.mark.usefixtures("_no_driver")
@pytest.mark.parametrize("name", DECODED)
def test_a_step_does_not_wait_and_can_be_recorded(name: str) -> None:
    training = make_training(name, DECODED)
    recorder, waits = RerunRecorder(), []
    with pretended_gpu() as record:

        def record_step(function: Any) -> Any:
            before = record.waits.copy()
            found = recorder(function)
            waits.append(record.waits - before)
            return found

        graphs, there = DecodingGraphs(lambda: record_step), pretend_training(training)
        for _ in range(2):
            decode(there, SHORT["beam"], graphs)
    assert waits
    assert not any(waits)


@pytest.mark.usefixtures("_no_driver")
@pytest.mark.parametrize(("mode", "most"), [("greedy", 25), ("beam", 72)])
@pytest.mark.parametrize("name", ["captioner", "captioner, transformer"])
def test_a_token_costs_few_launches(name: str, mode: str, most: int) -> None:
    training, counts = make_training(name, DECODED), []
    with pretended_gpu() as record:
        there = pretend_training(training)

        def record_step(function: Any) -> Any:
            replay, memory = RerunRecorder()(function)

            def launch() -> None:
                before = record.launches.copy()
                replay()
                record.launches = before + Counter(graph=1)

            return launch, memory

        graphs = DecodingGraphs(lambda: record_step)
        for length in (4, 12):
            config = replace(MODES[mode], max_length=length, min_length=length)
            for _ in range(3):
                record.launches.clear()
                decode(there, config, graphs)
            counts.append(record.launches.total())
    assert counts[1] - counts[0] <= most * 8
