"""The terms of a loss, and the scores that a task's subclass adds."""

import math

import pytest
import torch
from torch import nn

from attendgen.data.batch import is_token
from attendgen.layers.hard_attention import CategoricalSampler
from attendgen.losses.score_function import LeaveOneOutEstimator, negative_entropy
from attendgen.tasks.base import LossTerm, sum_terms
from attendgen.tasks.captioning import CaptioningTask
from attendgen.tasks.hard_attention import HardAttentionTask
from attendgen.tasks.rewards import make_reward
from attendgen.tasks.self_critical import SelfCriticalTask
from helpers.errors import refusal


class Regularized(CaptioningTask):
    """A task with one more term and one more score."""

    def loss_terms(self, batch, predictions):
        norm = sum(parameter.square().sum() for parameter in self.model.parameters())
        return {**super().loss_terms(batch, predictions), "norm": LossTerm(norm, 0.25)}

    def validation_means(self, batch, predictions):
        mask = is_token(batch.outputs)
        return {"attention_entropy": (-(negative_entropy(predictions.attention) * mask).sum(), mask.sum())}


def log_of(task, batch) -> dict[str, tuple[float, bool]]:
    """Return what a training step logs, and whether the progress bar shows it."""
    logged: dict[str, tuple[float, bool]] = {}
    task.log = lambda name, value, prog_bar=False, **options: logged.update({name: (float(value), prog_bar)})
    torch.manual_seed(3)
    task.training_step(batch, 0)
    return logged


def test_a_term_of_a_subclass_is_weighted_and_logged(make_task, batch):
    logged = log_of(make_task(Regularized, doubly_stochastic_weight=0.5), batch)
    value = {name.removeprefix("train/"): value for name, (value, _) in logged.items()}
    assert set(value) == {"loss", "cross_entropy", "doubly_stochastic", "norm"}
    expected = value["cross_entropy"] + 0.5 * value["doubly_stochastic"] + 0.25 * value["norm"]
    assert value["loss"] == pytest.approx(expected, rel=1e-6)
    plain = log_of(make_task(doubly_stochastic_weight=0.5), batch)
    assert {name: logged[name] for name in plain if name != "train/loss"} == {
        name: plain[name] for name in plain if name != "train/loss"
    }


def test_gradient_is_that_of_the_weighted_terms():
    first, second = (torch.tensor(value, requires_grad=True) for value in (2.0, 3.0))
    logged_alone = torch.tensor(math.nan, requires_grad=True)
    terms = {"a": LossTerm(first), "b": LossTerm(second, -0.5), "c": LossTerm(logged_alone, 0)}
    loss = sum_terms(terms)
    loss.backward()
    assert loss.item() == 0.5
    assert (first.grad.item(), second.grad.item(), logged_alone.grad) == (1.0, -0.5, None)


def test_terms_without_a_weight_or_named_as_their_sum_are_refused():
    assert "no term of the loss has a weight: a" in refusal(sum_terms, {"a": LossTerm(torch.ones(()), 0)})
    assert "called 'loss'" in refusal(sum_terms, {"loss": LossTerm(torch.ones(()))})


def test_each_task_logs_its_terms(make_task, batch):
    estimator = LeaveOneOutEstimator(CategoricalSampler(), 2)
    hard = log_of(make_task(HardAttentionTask, estimator=estimator, doubly_stochastic_weight=0.0), batch)
    assert {"train/loss", "train/cross_entropy", "train/attention_entropy"} <= set(hard)
    assert [name for name, (_, shown) in hard.items() if shown] == ["train/cross_entropy"]
    critical = make_task(SelfCriticalTask, samples=2)
    critical.reward = make_reward({0: ["a red square"], 1: ["blue square"]}, critical.vocabulary)
    logged = log_of(critical, batch)
    assert set(logged) == {"train/loss", "train/reward", "train/advantage"}  # the loss has one term
    assert [name for name, (_, shown) in logged.items() if shown] == ["train/reward"]


def test_a_score_of_a_subclass_needs_no_forward_pass_of_its_own(make_task, batch, monkeypatch):
    task = make_task(Regularized)
    calls = []
    forward = task.model.forward
    monkeypatch.setattr(task.model, "forward", lambda *given: calls.append(1) or forward(*given))
    task.on_validation_epoch_start()
    task.validation_step(batch, 0)
    task.validation_step(batch._replace(outputs=batch.outputs[:, :1], inputs=batch.inputs[:, :1]), 1)
    assert len(calls) == 2
    entropies = []
    for outputs, alphas in (
        (batch.outputs, forward(batch.images, batch.inputs)[1]),
        (batch.outputs[:, :1], forward(batch.images, batch.inputs[:, :1])[1]),
    ):
        rows = alphas[outputs != 0]
        entropies += (-(rows * rows.log()).sum(dim=-1)).tolist()
    assert task.compute_means()["attention_entropy"] == pytest.approx(sum(entropies) / len(entropies), rel=1e-5)
    task.on_validation_epoch_start()
    assert task.compute_means() == {}


class Bare(nn.Module):
    def encode_images(self, images):
        return images


def test_a_model_that_lacks_what_a_task_needs_is_one_line(make_task):
    estimator = LeaveOneOutEstimator(CategoricalSampler(), 2)
    for kind, settings, missing in (
        (HardAttentionTask, {"estimator": estimator}, "forward_sampled, which hard attention needs"),
        (SelfCriticalTask, {}, "fixed_dropout_masks, score_sampled, is_hard, which self-critical training needs"),
    ):
        task = make_task(kind, **settings)
        task.model = Bare()
        assert refusal(task.setup, "fit") == f"model: Bare has no {missing}"
    made = make_task()
    arguments = (made.vocabulary, made.optimizer, made.schedule, made.decoding)
    assert CaptioningTask(Bare(), *arguments).output_vocabulary is made.vocabulary
    assert refusal(CaptioningTask, nn.Linear(1, 1), *arguments).startswith("model: Linear has no encode_images")
