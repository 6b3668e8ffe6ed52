"""Training steps that are recorded as CUDA graphs."""

import pytest
import torch

from attendgen.tasks.graphs import GraphedSteps
from helpers.families import FAMILIES, make_training, move

pytestmark = pytest.mark.gpu

WITHOUT = ["critical"]  # whose rewards the processor computes
GRAPHED = [name for name in FAMILIES if not any(part in name for part in WITHOUT)]


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
