"""Training and decoding steps that are recorded as CUDA graphs."""

import pytest
import torch

from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.graphs import DecodingGraphs
from attendgen.decoding.protocol import Decoded
from attendgen.runs.run import convert_precision
from attendgen.tasks.graphs import GraphedSteps
from helpers.decoded_families import DECODED, MODES
from helpers.families import FAMILIES, Training, make_captioner, make_training, move
from helpers.rerun import make_refusing_recorder

pytestmark = pytest.mark.gpu

WITHOUT = ["critical"]  # sampling stops when all captions have ended
GRAPHED = [name for name in FAMILIES if not any(part in name for part in WITHOUT)]
IN_ALL_MODES = ("captioner", "seq2seq, luong", "lm, lstm", "ensemble of captioners")
DECODINGS = [(name, mode) for name in DECODED for mode in (MODES if name in IN_ALL_MODES else ("greedy", "beam"))]


def run(name: str, dtype: torch.dtype, graphed: bool, device: str, dropout: float) -> list[torch.Tensor]:
    """Return the losses of a few steps of gradient descent."""
    training = move(make_training(name, dropout=dropout), device)
    task, batch = training
    task.graphs = GraphedSteps(task) if graphed else None
    optimizer = torch.optim.SGD(task.parameters(), lr=0.05)
    losses = []
    for step in range(5):
        torch.manual_seed(step)
        with torch.autocast("cuda", dtype, enabled=dtype != torch.float, cache_enabled=False):
            loss = task.training_step(batch, step)
        optimizer.zero_grad()
        task.backward(loss)
        optimizer.step()
        losses.append(loss.detach().clone())
    return losses


@pytest.mark.parametrize("dtype", [torch.float, torch.bfloat16])
@pytest.mark.parametrize("name", GRAPHED)
def test_a_replayed_step_is_the_step(name: str, dtype: torch.dtype, device: str) -> None:
    expected = run(name, dtype, False, device, dropout=0.0)
    found = run(name, dtype, True, device, dropout=0.0)
    torch.testing.assert_close(found, expected, rtol=1e-5 if dtype == torch.float else 2e-2, atol=1e-5)


def test_each_replay_draws_its_own_dropout(device: str) -> None:
    losses = run("captioner", torch.float, True, device, dropout=0.5)
    again = run("captioner", torch.float, True, device, dropout=0.5)
    torch.testing.assert_close(losses, again)
    assert len({float(loss) for loss in losses}) == len(losses)


def decode(training: Training, config: DecodingConfig, graphs: DecodingGraphs | None) -> Decoded:
    """Return what a model decodes for a batch."""
    task, batch = training
    task.eval().decoding, task.decoding_graphs = config, graphs
    with torch.no_grad():
        return task.generate(batch)


@pytest.mark.parametrize("precision", ["32", "bf16"])
@pytest.mark.parametrize(("name", "mode"), DECODINGS)
def test_replayed_decoding_is_the_plain_one(name: str, mode: str, precision: str, device: str) -> None:
    training = move(make_training(name, DECODED), device)
    convert_precision(training.task.model, precision)
    plain = decode(training, MODES[mode], DecodingGraphs(make_refusing_recorder))
    graphs = DecodingGraphs()
    for _ in range(3):
        found = decode(training, MODES[mode], graphs)
        assert torch.equal(found.tokens, plain.tokens)
        torch.testing.assert_close(tuple(found[1:]), tuple(plain[1:]), rtol=1e-5, atol=1e-5)
    assert all(model.recorded for model in graphs.models.values())
    if precision == "32":
        assert torch.equal(decode(training, MODES[mode], None).tokens, plain.tokens)


def test_training_and_decoding_are_replayed_in_turn(device: str) -> None:
    training = move(make_training("captioner", DECODED, dropout=0.5), device)
    graphs = DecodingGraphs()
    steps = GraphedSteps(training.task)
    losses = []
    for _ in range(3):
        with torch.inference_mode():  # as in a validation
            found = decode(training, MODES["beam"], graphs)
            expected = decode(training, MODES["beam"], None)
        assert torch.equal(found.tokens, expected.tokens)
        training.task.train()
        terms = steps(training.batch)
        losses.append({name: term.value.item() for name, term in terms.items()})
    assert all(model.recorded for model in graphs.models.values())
    assert losses[0] != losses[1] != losses[2], "each replay draws its own dropout"


def test_sampled_attention_differs_between_replays(device: str) -> None:
    training = move(make_captioner(inference_attention="sample"), device)
    graphs = DecodingGraphs()
    found = [decode(training, MODES["greedy"], graphs).attention for _ in range(8)]
    assert all(model.recorded for model in graphs.models.values())
    shapes = {part.shape for part in found}
    assert len(shapes) > 1 or any(not torch.equal(found[-1], part) for part in found[3:-1])


def test_a_step_that_waits_is_computed_plainly(device: str) -> None:
    training = move(make_training("captioner", DECODED), device)
    model = training.task.model
    expected = decode(training, MODES["sampling"], None)
    step = model.step

    def wait_and_step(tokens: torch.Tensor, *rest: object) -> object:
        assert int(tokens.max()) >= 0
        return step(tokens, *rest)

    model.step = wait_and_step
    graphs = DecodingGraphs()
    for _ in range(2):
        assert torch.equal(decode(training, MODES["sampling"], graphs).tokens, expected.tokens)
    assert not any(model.recorded for model in graphs.models.values())
    torch.rand(2, device=device)  # random numbers can still be drawn
