import math
from itertools import pairwise

import pytest
import torch

from attendgen.optim.build import build_optimizer
from attendgen.optim.schedules import Constant, WarmupCosine
from helpers.errors import refusal

STEPS, WARMUP = 110, 10
HALF = (STEPS - WARMUP) // 2


@pytest.mark.parametrize("final", [0.0, 0.1])
def test_warm_up_rises_linearly_to_one(final):
    schedule = WarmupCosine(STEPS, WARMUP, final)
    assert [schedule(step) for step in range(WARMUP)] == pytest.approx([k / WARMUP for k in range(1, WARMUP + 1)])
    assert schedule(0) > 0  # the first step changes the weights
    assert schedule(WARMUP) == pytest.approx(1)


@pytest.mark.parametrize("final", [0.0, 0.1])
def test_the_cosine_falls_from_one_to_final(final):
    schedule = WarmupCosine(STEPS, WARMUP, final)
    for done in (0, 0.25, 0.5, 0.75, 1):
        expected = final + (1 - final) * math.cos(math.pi * done / 2) ** 2  # half-angle form of equation 5
        assert schedule(WARMUP + round(2 * HALF * done)) == pytest.approx(expected)
    assert schedule(WARMUP + HALF) == pytest.approx((1 + final) / 2)
    assert schedule(STEPS) == pytest.approx(final)


@pytest.mark.parametrize("final", [0.0, 0.1])
def test_after_the_last_step_the_rate_stays_at_final(final):
    schedule = WarmupCosine(STEPS, WARMUP, final)
    assert schedule(STEPS + 1) == schedule(10 * STEPS) == pytest.approx(final)


def test_the_rate_never_rises_after_the_warm_up():
    factors = [WarmupCosine(STEPS, WARMUP)(step) for step in range(WARMUP, STEPS + 1)]
    assert all(later < earlier for earlier, later in pairwise(factors))


def test_without_warm_up_the_first_step_has_the_full_rate():
    assert WarmupCosine(STEPS)(0) == pytest.approx(1)


def test_a_run_shorter_than_its_warm_up_does_not_divide_by_zero():
    schedule = WarmupCosine(steps=5, warmup=5)
    assert [schedule(step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1])
    assert schedule(5) == pytest.approx(1)
    assert schedule(6) == pytest.approx(0)


def test_a_warm_up_that_is_longer_than_the_training_is_a_tenth_of_it():
    schedule = WarmupCosine(steps=30, warmup=400)
    assert [schedule(step) for step in range(3)] == pytest.approx([1 / 3, 2 / 3, 1])
    assert schedule(30) == pytest.approx(0)


@pytest.mark.parametrize(
    "wrong", [{"task.schedule.warmup": -1}, {"task.schedule.final": 1.5}, {"task.schedule.steps": -1}], ids=str
)
def test_a_schedule_out_of_range_is_refused(wrong):
    ((field, value),) = wrong.items()
    message = refusal(WarmupCosine, **{"steps": 9, field.rpartition(".")[2]: value})
    assert message.startswith(f"{field}={value}: ")


def test_a_constant_schedule_keeps_the_rate():
    assert {Constant()(step) for step in (0, 1, STEPS)} == {1.0}


def test_the_optimizer_follows_the_schedule_and_has_the_trainable_parameters():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    model[0].requires_grad_(False)
    schedule = WarmupCosine(STEPS, WARMUP)
    configured = build_optimizer(model, lambda parameters: torch.optim.SGD(parameters, lr=0.5), schedule)
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    assert configured["lr_scheduler"]["interval"] == "step"
    assert [id(p) for group in optimizer.param_groups for p in group["params"]] == list(map(id, model[1].parameters()))
    rates = []
    for _ in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([0.5 * schedule(step) for step in range(STEPS)])
