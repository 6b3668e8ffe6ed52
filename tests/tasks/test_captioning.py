"""The loss of hard attention, term by term."""

from functools import partial

import pytest
import torch

from attendgen.data.batch import CaptionBatch
from attendgen.decoding.config import DecodingConfig
from attendgen.layers.attention import AdditiveAttention
from attendgen.layers.hard_attention import argmax, sampled
from attendgen.layers.state import take_rows
from attendgen.losses.score_function import (
    LeaveOneOutEstimator,
    MovingAverageBaseline,
    SoftBaselineEstimator,
    StraightThroughGumbelEstimator,
)
from attendgen.losses.self_critical import SelfCritical
from attendgen.metrics.cider import CiderD
from attendgen.models.captioner import Captioner
from attendgen.models.encoders.small_cnn import SmallCNN
from attendgen.tasks.captioning import CaptioningTask
from attendgen.text.vocabulary import Vocabulary
from attendgen.utils.errors import UserError

WORDS = ["a", "red", "blue", "square"]


def make(estimator, look: str = "expected", **settings) -> CaptioningTask:
    torch.manual_seed(1)
    vocabulary = Vocabulary(WORDS, "caption")
    encoder = SmallCNN((4,), size=8)
    model = Captioner(
        len(vocabulary), encoder, partial(AdditiveAttention, dim=5), embedding_dim=6, hidden=7, inference_attention=look
    )
    task = CaptioningTask(
        model, vocabulary, torch.optim.Adam, lambda step: 1.0, DecodingConfig(), estimator=estimator, **settings
    )
    task.log = lambda *arguments, **options: None  # no trainer here
    return task.eval()


@pytest.fixture
def batch() -> CaptionBatch:
    inputs = torch.tensor([[[1, 4, 5], [1, 4, 0]], [[1, 6, 0], [0, 0, 0]]])
    outputs = torch.tensor([[[4, 5, 2], [4, 2, 0]], [[6, 2, 0], [0, 0, 0]]])
    return CaptionBatch(torch.tensor([0, 1]), torch.randn(2, 9, 4), inputs, outputs)


def plain(task: CaptioningTask, batch: CaptionBatch, by_caption: bool, entropy: float, penalty: float) -> float:
    """The loss along the likeliest places, where every path is the same and no baseline leaves anything over."""
    paths = task.model.forward_sampled(batch.images, batch.inputs, argmax, 1)
    captions = []
    for image in range(2):
        for caption in range(2):
            real = [t for t, word in enumerate(batch.outputs[image, caption].tolist()) if word]
            if not real:
                continue
            logits, alphas = paths.logits[image, caption, 0].double(), paths.alphas[image, caption, 0].double()
            nats = sum(-logits[t].log_softmax(-1)[batch.outputs[image, caption, t]].item() for t in real)
            order = sum((alphas[t] * alphas[t].log()).sum().item() for t in real)
            ones = (1 - alphas[real].sum(0)).square().sum().item()
            captions.append((len(real), nats + entropy * order, ones))
    total = sum(length for length, _, _ in captions)
    terms = [term / (length if by_caption else 1) for length, term, _ in captions]
    mean = sum(terms) / (len(captions) if by_caption else total)
    return mean + penalty * sum(ones for *_, ones in captions) / len(captions)


@pytest.mark.parametrize("by_caption", [False, True])
@pytest.mark.parametrize("entropy", [0.0, 0.3])
@pytest.mark.parametrize("penalty", [0.0, 0.5])
@pytest.mark.parametrize("paths", [1, 3])
def test_the_hard_loss_equals_a_plain_loop(batch, by_caption, entropy, penalty, paths):
    estimator = (
        LeaveOneOutEstimator(argmax, paths, entropy=entropy)
        if paths > 1
        else StraightThroughGumbelEstimator(argmax, entropy=entropy)
    )
    task = make(estimator, by_caption=by_caption, doubly_stochastic_weight=penalty)
    loss = task.training_step(batch, 0).item()
    assert loss == pytest.approx(plain(task, batch, by_caption, entropy, penalty), rel=1e-5)


@pytest.mark.parametrize(
    "estimator", [MovingAverageBaseline, partial(LeaveOneOutEstimator, num_samples=2), SoftBaselineEstimator]
)
def test_the_score_function_reaches_the_attention(batch, estimator):
    task = make(estimator(sampled), doubly_stochastic_weight=0.0)
    task.training_step(batch, 0).backward()
    assert task.model.decoder.attention.score.weight.grad.any()


def test_the_soft_path_is_the_soft_model(batch):
    task = make(None)
    paths = task.model.forward_sampled(batch.images, batch.inputs, argmax, 2, soft=True)
    logits, alphas = task.model(batch.images, batch.inputs)
    torch.testing.assert_close(paths.logits[:, :, 2], logits)
    torch.testing.assert_close(paths.alphas[:, :, 2], alphas)
    torch.testing.assert_close(paths.weights[:, :, 2], alphas)
    torch.testing.assert_close(paths.weights[:, :, 0].max(dim=-1).values, torch.ones(2, 2, 3))
    assert not torch.allclose(paths.logits[:, :, 0], logits)


def test_paths_of_a_caption_share_their_dropout(batch):
    task = make(None).train()
    paths = task.model.forward_sampled(batch.images, batch.inputs, argmax, 4)
    for path in range(1, 4):
        torch.testing.assert_close(paths.logits[:, :, path], paths.logits[:, :, 0])
    again = task.model.forward_sampled(batch.images, batch.inputs, argmax, 4)
    assert not torch.allclose(again.logits, paths.logits)


@pytest.mark.parametrize("baseline", ["greedy", "leave_one_out"])
@pytest.mark.parametrize("look", ["expected", "sampled"])
def test_the_self_critical_loss_equals_a_plain_loop(batch, baseline, look, monkeypatch):
    temperature = 0.6
    task = make(None, inference_attention=look, self_critical=SelfCritical(3, baseline, temperature))
    # features are left out, the same ones for writing as for scoring
    task.model.memory_dropout = task.model.dropout.p = task.model.word_dropout.p = 0.5
    started, held = [], []
    start = task.model.start

    def once(images):
        started.append(start(images))
        held.append(task.model.held)
        return started[-1]

    monkeypatch.setattr(task.model, "start", once)
    references = {0: ["a red square"], 1: ["blue square", "a square"]}
    task.reward = CiderD(references, end=True)
    allowed = [2, *range(4, 4 + len(WORDS))]  # <eos> and words; neither <pad>, <sos> nor <unk> is ever drawn
    found = []
    write = task._write
    monkeypatch.setattr(task, "_write", lambda *arguments: found.append(write(*arguments)) or found[-1])
    loss = task.training_step(batch, 0)
    assert task.model.training
    task.eval()
    assert len(started) == 1
    assert task.model.held is None
    memories, states = started[0]
    for name, size in {"word": 6, "hidden": 7, "deep": 6}.items():
        assert held[0][name].shape == (size,)
        assert set(held[0][name].tolist()) <= {0.0, 2.0}
    assert (memories.values == 0).float().mean() > 0.2
    drawn = found[0]
    total = 0.0
    for image in range(2):
        rewards = [
            task.reward(image, task.vocabulary.decode(tokens), 2 in tokens) for tokens in drawn.tokens[image].tolist()
        ]
        for n in range(3):
            others = [reward for m, reward in enumerate(rewards) if m != n]
            below = sum(others) / 2
            if baseline == "greedy":
                tokens = found[1].tokens[image, 0].tolist()
                below = task.reward(image, task.vocabulary.decode(tokens), 2 in tokens)
            log_prob = 0.0
            tokens = [token for token in drawn.tokens[image, n].tolist() if token]
            memory, state = (take_rows(part, torch.tensor([image])) for part in (memories, states))
            for t, (token, drawn_word) in enumerate(zip([1, *tokens[:-1]], tokens, strict=True)):
                word = task.model.embedding_dim(torch.tensor([token])) * held[0]["word"]
                looked = drawn.attention[image, n, t]
                state, context, alpha, _ = task.model.decoder.step(
                    task.model.decoder.keys(word), state, memory, lambda a, w=looked: w.view_as(a)
                )
                deep = task.model.deep_hidden(state.hidden * held[0]["hidden"]) + task.model.deep_context(context)
                logits = task.model.output((word + deep).tanh() * held[0]["deep"])[0]
                cooled = logits / temperature
                log_prob += (cooled[drawn_word] - cooled[allowed].logsumexp(0)).item()
                if look == "sampled":  # and the probability of the place
                    log_prob += alpha[0][looked.argmax()].log().item()
            total -= (rewards[n] - below) * log_prob / 6
    assert loss.item() == pytest.approx(total, abs=1e-4)
    loss.backward()
    assert task.model.decoder.attention.score.weight.grad.any()
    # no reward speaks of what is never drawn, so nothing may push it
    assert not task.model.output.bias.grad[[0, 1, 3]].any()
    assert task.model.output.bias.grad[allowed].all()


def test_the_encoder_has_a_learning_rate_of_its_own():
    task = make(None, encoder_lr=1e-3)
    task.schedule = lambda step: 0.5
    task.optimizer = partial(torch.optim.SGD, lr=0.1)
    built = task.configure_optimizers()["optimizer"]
    rates = {id(p): group["lr"] for group in built.param_groups for p in group["params"]}
    for name, parameter in task.model.named_parameters():
        assert rates.pop(id(parameter)) == pytest.approx(0.5 * (1e-3 if name.startswith("encoder.") else 0.1))
    assert not rates


def test_a_rate_for_a_frozen_encoder_is_refused():
    task = make(None, encoder_lr=1e-3)
    task.model.encoder.freeze = True
    with pytest.raises(UserError, match=r"task\.encoder_lr=0\.001: the encoder is frozen"):
        task.configure_optimizers()
