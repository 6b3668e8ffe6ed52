import copy

import pytest
import torch
from torch import nn

from attendgen.optim.muon import MuonAdamW
from attendgen.utils.errors import UserError


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(7, 4)
        self.lstm = nn.LSTM(4, 5, batch_first=True)
        self.output = nn.Linear(5, 7)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.output(self.lstm(self.embedding(ids))[0])


def train(model: Model, optimizer: torch.optim.Optimizer, steps: int, start: int = 0) -> None:
    for step in range(start, start + steps):
        ids = torch.randint(7, (3, 9), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        logits = model(ids[:, :-1])
        nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()
        optimizer.step()


def groups(model: Model) -> list[dict]:
    return [{"params": list(model.named_parameters())}]


def test_steps_equal_those_of_torchs_muon_and_adamw():
    model, other = Model(), Model()
    train(model, MuonAdamW(groups(model), lr=0.01, muon_lr=0.03), 5)
    matrices = [other.lstm.weight_ih_l0, other.lstm.weight_hh_l0]
    rest = [other.embedding.weight, other.lstm.bias_ih_l0, other.lstm.bias_hh_l0, *other.output.parameters()]
    pair = (
        torch.optim.Muon(matrices, lr=0.03, weight_decay=0.0),
        torch.optim.AdamW(rest, lr=0.01, weight_decay=0.0),
    )

    class Both:
        def zero_grad(self) -> None:
            other.zero_grad()

        def step(self) -> None:
            for part in pair:
                part.step()

    train(other, Both(), 5)
    torch.testing.assert_close(model.state_dict(), other.state_dict())


def test_a_muon_step_is_orthogonal():
    model = Model()
    before = model.lstm.weight_hh_l0.detach().clone()
    train(model, MuonAdamW(groups(model), muon_lr=0.5), 1)
    step = before - model.lstm.weight_hh_l0.detach()  # 20 x 5
    lengths = torch.linalg.svdvals(step / 0.5 / 2)  # divided by the rate and sqrt(20 / 5)
    assert (lengths > 0.6).all()
    assert (lengths < 1.3).all()


def test_a_schedule_scales_both_rates():
    optimizer = MuonAdamW(groups(Model()), lr=0.01, muon_lr=0.03)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    optimizer.step()
    scheduler.step()
    assert sorted(group["lr"] for group in optimizer.param_groups) == [0.005, 0.015]
    assert sorted(group["lr"] for group in (*optimizer.muon.param_groups, *optimizer.adamw.param_groups)) == [
        0.005,
        0.015,
    ]


def test_a_restored_optimizer_continues_as_before():
    model = Model()
    optimizer = MuonAdamW(groups(model), lr=0.01)
    train(model, optimizer, 3)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    train(model, optimizer, 3, start=3)
    other = Model()
    restored = MuonAdamW(groups(other), lr=0.5)
    other.load_state_dict(saved[0])
    restored.load_state_dict(saved[1])
    train(other, restored, 3, start=3)
    assert all(torch.equal(*pair) for pair in zip(other.parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("matrices", "message"),
    [("nothing", "finds no parameter of this model"), ("bias_hh", r"lstm\.bias_hh_l0 is not a matrix")],
)
def test_patterns_that_find_no_matrix_are_refused(matrices, message):
    with pytest.raises(UserError, match=rf"task\.optimizer\.matrices={matrices}: {message}"):
        MuonAdamW(groups(Model()), matrices=matrices)
