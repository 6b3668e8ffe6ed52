"""Training steps that are recorded once per shape and replayed; without a GPU a plain function stands for a graph."""

from collections.abc import Callable
from functools import partial
from typing import Any

import lightning
import pytest
import torch
from torch.utils.data import DataLoader

from attendgen.data.batch import StreamBatch
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.graphs import DecodingGraphs
from attendgen.layers.graphs import MULTIPLE
from attendgen.layers.state import map_tensors
from attendgen.tasks.graphs import GraphedSteps, Passes, compute_passes, copy_tensors, list_trained, pad_to_multiple
from attendgen.utils.errors import UserError
from helpers.families import FAMILIES, Training, make_training
from helpers.rerun import RerunRecorder

WITHOUT = ["critical"]  # sampling stops when all captions have ended
GRAPHED = [name for name in FAMILIES if not any(part in name for part in WITHOUT)]


class Recorder:
    """Records a function by calling it, and replays it by another call that writes into the same memory."""

    def __init__(self) -> None:
        self.recorded = 0

    def __call__(self, function: Callable[[], Passes]) -> tuple[Callable[[], None], Passes]:
        self.recorded += 1
        memory = function()
        held = (
            [term.value for term in memory.terms.values()],
            [part for part in memory.gradients if part is not None],
            map_tensors(torch.clone, memory.carried),
        )

        def replay() -> None:
            again = function()
            values = [term.value for term in again.terms.values()]
            copy_tensors(held, (values, [part for part in again.gradients if part is not None], again.carried))

        return replay, memory._replace(carried=held[2])


def run(training: Training, graphs: GraphedSteps | None, steps: int = 3) -> list[Any]:
    """Return the loss and the gradients of several steps on the same batch."""
    task, batch = training
    task.graphs = graphs
    found = []
    for step in range(steps):
        torch.manual_seed(step)
        task.zero_grad()
        loss = task.training_step(batch, step)
        task.backward(loss)
        found.append((loss.detach(), [p.grad.clone() for p in task.parameters() if p.grad is not None]))
    return found


@pytest.mark.parametrize("name", GRAPHED)
def test_replayed_steps_are_those_of_the_task(name):
    expected = run(make_training(name, dropout=0.0), None)
    training = make_training(name, dropout=0.0)
    recorder = Recorder()
    found = run(training, GraphedSteps(training.task, recorder))
    torch.testing.assert_close(found, expected)
    assert recorder.recorded == 1
    is_stream = isinstance(training.batch, StreamBatch)
    assert is_stream == (training.task.get_carried(training.batch) is not None)


def test_there_is_a_graph_for_each_shape():
    training = make_training("captioner", dropout=0.0)
    recorder = Recorder()
    graphs = GraphedSteps(training.task, recorder)
    for length in (1, MULTIPLE, MULTIPLE + 1, 2 * MULTIPLE):
        batch = training.batch._replace(
            inputs=training.batch.inputs[..., :1].repeat(1, 1, length),
            outputs=training.batch.outputs[..., :1].repeat(1, 1, length),
        )
        run(Training(training.task, batch), graphs, steps=2)
    assert recorder.recorded == 2


@pytest.mark.parametrize("name", ["lm, windows", "lm, context"])
def test_contexts_of_several_lengths_share_a_graph(name):
    training = make_training(name, dropout=0.0)
    recorder = Recorder()
    graphs = GraphedSteps(training.task, recorder)
    for length in range(MULTIPLE + 1, 2 * MULTIPLE + 1):
        batch = training.batch._replace(context=training.batch.context[:, :1].repeat(1, length))
        found = run(Training(training.task, batch), graphs, steps=1)
        torch.testing.assert_close(found, run(Training(training.task, batch), None, steps=1))
    assert recorder.recorded == 1


def fit(name: str, is_graphed: bool, **settings: Any) -> dict[str, torch.Tensor]:
    """Return the weights after a training of four batches by Lightning."""
    task: Any
    task, batch = make_training(name)
    del task.log  # there is a trainer now
    task.optimizer = partial(torch.optim.SGD, lr=0.1)  # whose steps are in proportion to the gradients
    task.graphs = GraphedSteps(task, Recorder()) if is_graphed else None
    options = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    trainer = lightning.Trainer(accelerator="cpu", devices=1, max_epochs=1, **options, **settings)
    others = batch._replace(outputs=batch.outputs.flip(0))
    trainer.fit(task, DataLoader([batch, others, others, batch], batch_size=None))
    return task.state_dict()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("captioner", {"accumulate_grad_batches": 2}),
        ("captioner", {"accumulate_grad_batches": 3}),  # the last step has one batch
        ("seq2seq, luong, input feeding", {"gradient_clip_val": 0.1}),  # two biases are only used as their sum
    ],
)
def test_lightning_trains_the_same_weights(name, settings):
    torch.testing.assert_close(fit(name, True, **settings), fit(name, False, **settings))


def test_gradients_are_handed_over_once():
    training = make_training("captioner")
    graphs = GraphedSteps(training.task, Recorder())
    assert graphs(training.batch) is not None
    assert graphs.hand_over_gradients()
    assert not graphs.hand_over_gradients()


@pytest.mark.parametrize("name", GRAPHED)
def test_gradients_have_memory_of_their_own(name):
    task, batch = make_training(name)
    passes = compute_passes(task, batch)
    pairs = zip(list_trained(task), passes.gradients, strict=True)
    found = [(parameter, gradient) for parameter, gradient in pairs if gradient is not None]
    for number, (_, gradient) in enumerate(found):
        gradient.fill_(number)
    assert all(bool((gradient == number).all()) for number, (_, gradient) in enumerate(found))
    assert all(parameter.stride() == gradient.stride() for parameter, gradient in found)


def test_the_backward_pass_is_not_under_autocast():
    task, batch = make_training("captioner")
    weight = task.model.output.weight

    def compute_loss(batch: Any) -> Any:
        with torch.autocast("cpu", enabled=False):
            return {}, (weight @ weight.T).square().sum()

    task.compute_loss = compute_loss
    exact = 4 * weight.double() @ weight.double().T @ weight.double()
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        gradients = dict(zip(list_trained(task), compute_passes(task, batch).gradients, strict=True))
    torch.testing.assert_close(gradients[weight].double(), exact, rtol=1e-5, atol=1e-6)


def test_recording_leaves_buffers_and_random_numbers_alone():
    training = make_training("captioner, pixels", dropout=0.5)
    task = training.task
    before = [buffer.clone() for buffer in task.buffers()]
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    GraphedSteps(task, Recorder()).capture(training.batch, None)
    torch.testing.assert_close(torch.rand(3), expected)
    torch.testing.assert_close(list(task.buffers()), before)
    assert all(parameter.grad is None for parameter in task.parameters())


def test_a_step_that_cannot_be_recorded_is_refused():
    training = make_training("captioner")

    def fail(function: Callable[[], Passes]) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    message = r"trainer.compile=true: a step of CaptioningTask with Captioner cannot .* \(operation not permitted"
    with pytest.raises(UserError, match=message):
        GraphedSteps(training.task, fail)(training.batch)


@pytest.mark.parametrize("name", ["seq2seq, luong", "table"])
def test_inputs_of_similar_lengths_share_the_graphs_of_decoding(name):
    task, batch = make_training(name)
    task.eval().decoding = DecodingConfig(max_length=4, beam_size=3)
    recorder = RerunRecorder()
    graphs, counts = DecodingGraphs(lambda: recorder), []
    for length in (2 * MULTIPLE + 1, 3 * MULTIPLE - 1, 3 * MULTIPLE + 1):  # all longer than the batch
        padded = pad_to_multiple(batch, length)
        task.decoding_graphs = None
        expected = task.generate(padded)
        task.decoding_graphs = graphs
        for _ in range(2):
            found = task.generate(padded)
        assert torch.equal(found.tokens, expected.tokens)
        torch.testing.assert_close(found.scores, expected.scores, rtol=1e-5, atol=1e-5)
        counts.append(recorder.recorded)
    assert counts[0] == counts[1] < counts[2]
