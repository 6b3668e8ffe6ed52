"""The loss of soft attention, and the learning rate of the encoder."""

from functools import partial

import pytest
import torch

from attendgen.decoding.config import DecodingConfig
from helpers.errors import refusal


@pytest.mark.parametrize("reduction", ["per_token", "per_caption"])
@pytest.mark.parametrize("penalty", [0.0, 0.5])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_soft_loss_equals_a_loop_over_words(make_task, batch, reduction, penalty, smoothing):
    settings = {"label_smoothing": smoothing, "loss_reduction": reduction, "doubly_stochastic_weight": penalty}
    task = make_task(**settings)
    loss = task.training_step(batch, 0).item()
    logits, alphas = task.model(batch.images, batch.inputs)
    captions = []
    for image, caption in ((0, 0), (0, 1), (1, 0)):  # (1, 1) is padding
        real = [t for t, word in enumerate(batch.outputs[image, caption].tolist()) if word]
        nll = 0.0
        for t in real:
            log_probs = logits[image, caption, t].double().log_softmax(dim=-1)
            word = batch.outputs[image, caption, t]
            nll -= ((1 - smoothing) * log_probs[word] + smoothing * log_probs.mean()).item()
        uncovered = (1 - alphas[image, caption, real].sum(dim=0)).square().sum().item()
        captions.append((len(real), nll, uncovered))
    if reduction == "per_token":
        expected = sum(nll for _, nll, _ in captions) / sum(length for length, _, _ in captions)
    else:
        expected = sum(nll / length for length, nll, _ in captions) / 3
    expected += penalty * sum(uncovered for *_, uncovered in captions) / 3
    assert loss == pytest.approx(expected, rel=1e-5)


def test_unknown_reduction_is_refused(make_task):
    message = refusal(make_task, loss_reduction="per_image")
    assert message == "task.loss_reduction=per_image: unknown; choose per_token or per_caption"


def test_captions_are_generated_for_each_image_alone(make_task, batch):
    task = make_task()
    task.decoding = DecodingConfig(max_length=5, temperature=1.0, seed=3)
    together = task.generate(batch)
    for row in range(2):
        parts = (part[row : row + 1] for part in (batch.index, batch.images, batch.inputs, batch.outputs))
        alone = task.generate(type(batch)(*parts))
        length = alone.tokens.size(2)
        assert together.tokens[row, :, :length].tolist() == alone.tokens[0].tolist()


def test_encoder_has_a_learning_rate_of_its_own(make_task):
    task = make_task(encoder_lr=1e-3)
    task.schedule = lambda step: 0.5
    task.optimizer = partial(torch.optim.SGD, lr=0.1)
    built = task.configure_optimizers()["optimizer"]
    rates = {id(p): group["lr"] for group in built.param_groups for p in group["params"]}
    for name, parameter in task.model.named_parameters():
        assert rates.pop(id(parameter)) == pytest.approx(0.5 * (1e-3 if name.startswith("encoder.") else 0.1))
    assert not rates


def test_learning_rate_of_a_frozen_encoder_is_refused(make_task):
    task = make_task(encoder_lr=1e-3)
    task.model.encoder.frozen = True
    assert "task.encoder_lr=0.001: the encoder is frozen" in refusal(task.configure_optimizers)
