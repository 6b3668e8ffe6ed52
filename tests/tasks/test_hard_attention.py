"""The loss of hard attention, term by term, and what its samples share."""

from functools import partial

import pytest
import torch
from torch import nn

from attendgen.layers.hard_attention import ArgmaxSampler, CategoricalSampler
from attendgen.losses.score_function import (
    LeaveOneOutEstimator,
    MovingAverageBaseline,
    SoftBaselineEstimator,
    StraightThroughGumbelEstimator,
)
from attendgen.tasks.hard_attention import HardAttentionTask

REDUCTIONS = ("per_token", "per_caption")


def loss_of_argmax_attention(task, batch, reduction: str, entropy: float, penalty: float) -> float:
    """The loss with argmax attention, where all samples are equal and their costs equal any baseline."""
    samples = task.model.forward_sampled(batch.images, batch.inputs, ArgmaxSampler(), 1)
    captions = []
    for image in range(2):
        for caption in range(2):
            real = [t for t, word in enumerate(batch.outputs[image, caption].tolist()) if word]
            if not real:
                continue
            logits, alphas = samples.logits[image, caption, 0].double(), samples.alphas[image, caption, 0].double()
            nll = sum(-logits[t].log_softmax(-1)[batch.outputs[image, caption, t]].item() for t in real)
            order = sum((alphas[t] * alphas[t].log()).sum().item() for t in real)
            uncovered = (1 - alphas[real].sum(0)).square().sum().item()
            captions.append((len(real), nll + entropy * order, uncovered))
    total = sum(length for length, _, _ in captions)
    terms = [term / (length if reduction == "per_caption" else 1) for length, term, _ in captions]
    mean = sum(terms) / (len(captions) if reduction == "per_caption" else total)
    return mean + penalty * sum(uncovered for *_, uncovered in captions) / len(captions)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("entropy", [0.0, 0.3])
@pytest.mark.parametrize("penalty", [0.0, 0.5])
@pytest.mark.parametrize("num_samples", [1, 3])
def test_hard_loss_equals_a_loop_over_words(make_task, batch, reduction, entropy, penalty, num_samples):
    estimator = (
        LeaveOneOutEstimator(ArgmaxSampler(), num_samples, entropy=entropy)
        if num_samples > 1
        else StraightThroughGumbelEstimator(ArgmaxSampler(), entropy=entropy)
    )
    settings = {"loss_reduction": reduction, "doubly_stochastic_weight": penalty}
    task = make_task(HardAttentionTask, estimator=estimator, **settings)
    loss = task.training_step(batch, 0).item()
    assert loss == pytest.approx(loss_of_argmax_attention(task, batch, reduction, entropy, penalty), rel=1e-5)


@pytest.mark.parametrize(
    "estimator", [MovingAverageBaseline, partial(LeaveOneOutEstimator, num_samples=2), SoftBaselineEstimator]
)
def test_attention_is_trained_by_the_score_function(make_task, batch, estimator):
    task = make_task(HardAttentionTask, estimator=estimator(CategoricalSampler()), doubly_stochastic_weight=0.0)
    task.training_step(batch, 0).backward()
    assert task.model.decoder.attention.score.weight.grad.any()


def test_soft_sample_equals_soft_attention(make_task, batch):
    model = make_task().model
    samples = model.forward_sampled(batch.images, batch.inputs, ArgmaxSampler(), 2, with_soft=True)
    logits, alphas = model(batch.images, batch.inputs)
    torch.testing.assert_close(samples.logits[:, :, 2], logits)
    torch.testing.assert_close(samples.alphas[:, :, 2], alphas)
    torch.testing.assert_close(samples.weights[:, :, 2], alphas)
    torch.testing.assert_close(samples.weights[:, :, 0].max(dim=-1).values, torch.ones(2, 2, 3))
    assert not torch.allclose(samples.logits[:, :, 0], logits)


def test_samples_of_a_caption_share_their_dropout_mask(make_task, batch):
    model = make_task().model.train()
    samples = model.forward_sampled(batch.images, batch.inputs, ArgmaxSampler(), 4)
    for sample in range(1, 4):
        torch.testing.assert_close(samples.logits[:, :, sample], samples.logits[:, :, 0])
    again = model.forward_sampled(batch.images, batch.inputs, ArgmaxSampler(), 4)
    assert not torch.allclose(again.logits, samples.logits)


def test_buffers_of_an_estimator_are_saved(make_task):
    task = make_task(HardAttentionTask, estimator=MovingAverageBaseline(CategoricalSampler()))
    assert "estimator.baseline" in task.state_dict()


def test_parameters_of_an_estimators_parts_are_trained(make_task):
    estimator = SoftBaselineEstimator(CategoricalSampler())
    estimator.network, estimator.scale = nn.Linear(2, 3), nn.Parameter(torch.ones(1))
    task = make_task(HardAttentionTask, estimator=estimator)
    trained = {id(p) for group in task.configure_optimizers()["optimizer"].param_groups for p in group["params"]}
    assert {id(p) for p in (*estimator.network.parameters(), estimator.scale)} <= trained
    assert len(trained) == len(list(task.parameters()))
