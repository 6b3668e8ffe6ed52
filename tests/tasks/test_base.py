"""What all tasks share: denominators of the loss, cross-entropy, optimizer, gathered outputs."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from attendgen.data.batch import StepTotals
from attendgen.tasks.base import register_parts
from attendgen.tasks.captioning import CaptioningTask
from attendgen.tasks.hard_attention import HardAttentionTask
from attendgen.tasks.language_model import LanguageModelTask
from attendgen.tasks.self_critical import SelfCriticalTask
from attendgen.tasks.seq2seq import Seq2SeqTask


def test_denominators_without_a_trainer_are_the_counts_of_the_batch(make_task, batch):
    totals = make_task().loss_denominators(batch)
    assert [int(count) for count in totals] == [2, 3, 7]  # images, captions, tokens with <eos>


def test_denominators_of_a_step_are_those_that_the_batch_carries(make_task, batch):
    totals = StepTotals(*(torch.tensor(float(count)) for count in (4, 9, 30)))
    assert make_task().loss_denominators(batch._replace(totals=totals)) == totals


def test_cross_entropy_is_per_token_and_is_reset(make_task):
    task = make_task()
    task.bits.update(torch.tensor(6.0), torch.tensor(4))
    task.bits.update(torch.tensor(3.0), torch.tensor(2))
    scores = task.compute_cross_entropy()
    assert scores == {
        "cross_entropy": pytest.approx(1.5),
        "perplexity": pytest.approx(math.exp(1.5), rel=1e-5),
    }
    task.bits.update(torch.tensor(2.0), torch.tensor(1))
    assert task.compute_cross_entropy()["cross_entropy"] == pytest.approx(2.0)


def test_optimizer_has_every_trainable_parameter_once(make_task):
    task = make_task()
    task.optimizer = partial(torch.optim.SGD, lr=0.1)
    task.schedule = lambda step: 0.25
    frozen = next(task.model.parameters()).requires_grad_(False)
    built = task.configure_optimizers()
    parameters = [p for group in built["optimizer"].param_groups for p in group["params"]]
    assert len({id(p) for p in parameters}) == len(parameters) == len(list(task.parameters())) - 1
    assert all(p is not frozen for p in parameters)
    assert {group["lr"] for group in built["optimizer"].param_groups} == {0.025}


def test_modules_and_parameters_of_a_plain_object_are_registered():
    class Part:
        def __init__(self) -> None:
            self.layer, self.scale, self.name = nn.Linear(2, 3), nn.Parameter(torch.ones(1)), "part"

    task = nn.Module()
    register_parts(task, "estimator", Part())
    names = ("estimator_layer.weight", "estimator_layer.bias", "estimator_scale")
    assert {name for name, _ in task.named_parameters()} == set(names)
    register_parts(task, "function", len)  # has none
    assert len(list(task.parameters())) == 3


@pytest.mark.parametrize(
    ("task", "family"),
    [
        (Seq2SeqTask, "seq2seq"),
        (LanguageModelTask, "language_model"),
        (CaptioningTask, "captioner"),
        (HardAttentionTask, "captioner"),
        (SelfCriticalTask, "captioner"),
    ],
)
def test_each_task_has_a_family_and_a_monitored_score(task, family):
    name, mode = task.monitor
    assert task.family == family
    assert name.startswith("val/")
    assert mode in ("min", "max")
