"""The check of a gradient estimator against the exact gradient, a sum over all ways of looking."""

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from attendgen.layers.attention import AdditiveAttention
from attendgen.layers.hard_attention import draw_weights
from attendgen.losses.score_function import Estimator, Samples
from attendgen.models.captioner import Captioner
from attendgen.models.encoders.small_cnn import SmallCNN
from attendgen.testing.compare import fixed_seed, in_eval, require_close
from attendgen.utils.errors import UserError

REGIONS, DIM, VOCAB_SIZE = 3, 4, 6
DRAWS = 4000  # of the sampler
MOST = 20_000  # combinations of paths


def enumerate_paths(regions: int, words: int, samples: int = 1) -> Int[Tensor, "combinations samples words"]:
    """Return every way in which so many samples look at one region per word."""
    paths = list(itertools.product(range(regions), repeat=words))
    combinations = list(itertools.product(paths, repeat=samples))
    return torch.tensor(combinations, dtype=torch.long).view(-1, samples, words)


def check_estimator(
    estimator: Estimator,
    biased: bool = False,
    lengths: Sequence[int] = (2, 1),
    hidden: int = 4,
    tolerance: float = 1e-5,
    model: nn.Module | None = None,
    source: Any = None,
) -> None:
    """Check that the mean of an estimator's gradient is the exact gradient of the expected loss.

    The problem is a captioner of 3 regions in double precision, small enough that all ways of looking are enumerated.
    The estimator's own sampler is checked, too: it must draw one region with the probabilities alpha. An estimator that
    reads relaxed samples cannot be enumerated.

    Args:
        estimator: of the gradient; a copy in evaluation mode is checked.
        biased: check instead that the mean is another.
        lengths: words of the captions, which are padded to the longest.
        hidden: size of the captioner's hidden state; its features have the size 4.
        tolerance: of differences, for each number of each parameter's gradient.
        model: another model with `forward_sampled`, of 6 words, in double precision and evaluation mode.
        source: its input, one of 3 locations.

    Raises:
        AssertionError: the means differ; the message names the parameter and the difference.
        UserError: there are too many ways of looking to enumerate.
    """
    number = REGIONS ** (max(lengths) * estimator.num_samples)
    if number > MOST:
        raise UserError(
            f"check_estimator: {number} ways of looking, at most {MOST} can be enumerated; use shorter captions or "
            "fewer samples"
        )
    with fixed_seed():
        try:
            _check_sampler(estimator)
            problem = _Problem(hidden, model, source)
            for length in lengths:
                _check_mean(problem, in_eval(estimator), length, max(lengths), tolerance)
        except AssertionError:
            if not biased:
                raise
            return
    if biased:
        raise AssertionError("biased=True, but the mean of the estimator's gradient is the exact gradient")


def _check_sampler(estimator: Estimator) -> None:
    alpha = torch.tensor([0.5, 0.3, 0.2])
    weights = draw_weights(estimator.sampler, alpha.expand(DRAWS, 1, 1, REGIONS)).weights.detach()
    ones = functional.one_hot(weights.argmax(dim=-1), REGIONS)
    require_close("the sampler does not choose one region", [weights], [ones], ["weights of the sum"], 1e-5)
    frequency = ones.float().mean(dim=(0, 1, 2))
    what = "the sampler does not draw with the probabilities alpha"
    require_close(what, [frequency], [alpha], ["frequency of each region"], 5 * (0.25 / DRAWS) ** 0.5)


def _check_mean(problem: "_Problem", estimator: Any, length: int, time: int, tolerance: float) -> None:
    exact = problem.differentiate(problem.expect_loss(length))
    found = problem.differentiate(problem.expect_estimate(estimator, length, time))
    what = f"captions of {length} words, the mean over all ways of looking is not the exact gradient"
    names = [f"gradient of {name}" for name in exact]
    require_close(what, list(found.values()), list(exact.values()), names, tolerance)


class _ScriptedSampler:
    """Choose given regions, step by step."""

    def __init__(self, paths: Int[Tensor, "combinations samples time"]) -> None:
        self.paths = paths
        self.step = 0

    def __call__(self, alpha: Float[Tensor, "*rows source"]) -> Float[Tensor, "*rows source"]:
        chosen = self.paths[..., self.step].reshape(alpha.shape[:-1])
        self.step += 1
        return functional.one_hot(chosen, REGIONS).to(alpha.dtype)


class _Problem:
    """One input, one text, and a model whose predictions depend on where it looks; a captioner unless given."""

    def __init__(self, hidden: int, model: nn.Module | None = None, source: Any = None) -> None:
        attention = partial(AdditiveAttention, dim=5)
        encoder = SmallCNN((DIM,), size=8)
        captioner = Captioner(VOCAB_SIZE, encoder, attention, embedding_dim=3, hidden=hidden, dropout=0.0).double()
        with torch.no_grad():
            for parameter in captioner.parameters():
                parameter.mul_(3.0)  # so that the region matters
        self.model: Any = captioner if model is None else model
        self.features = torch.randn(1, REGIONS, DIM, dtype=torch.double) if model is None else source
        self.tokens = torch.randint(1, VOCAB_SIZE, (16,))

    def expect_loss(self, length: int) -> Float[Tensor, ""]:
        """Return the exact expectation of the caption's loss."""
        samples = self.look(enumerate_paths(REGIONS, length), length, soft=False)
        probability = samples.log_alpha.sum(dim=-1).exp()
        return (probability * samples.nll.sum(dim=-1)).sum()

    def expect_estimate(self, estimator: Any, length: int, time: int) -> Float[Tensor, ""]:
        """Return the expectation of the estimator's loss over its samples."""
        paths = enumerate_paths(REGIONS, length, estimator.num_samples)
        paths = functional.pad(paths, (0, time - length))  # what is chosen at padding does not matter
        samples = self.look(paths, length, estimator.soft)
        probability = samples.log_alpha.sum(dim=(1, 2)).exp().detach()
        return (probability * estimator(samples)).sum()

    def look(self, paths: Int[Tensor, "combinations samples time"], length: int, soft: bool) -> Samples:
        """Return what an estimator is given for each combination of paths."""
        combinations, number, time = paths.shape
        inputs = self.tokens[:time].expand(1, combinations, -1)
        found = self.model.forward_sampled(self.features, inputs, _ScriptedSampler(paths), number, soft)
        logits = found.logits[0]  # combinations samples time vocab
        mask = (torch.arange(time) < length).expand(combinations, -1)
        targets = self.tokens[1 : time + 1].expand(logits.shape[:-1])
        nll = functional.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none")
        nll = nll.view(targets.shape) * mask.unsqueeze(1)
        alphas, weights, hidden = (part[0, :, :number] for part in (found.alphas, found.weights, found.hidden))
        log_alpha = (weights * alphas.log()).sum(dim=-1) * mask.unsqueeze(1)
        soft_nll = nll[:, -1] if soft else None
        return Samples(nll[:, :number], log_alpha, mask, alphas, weights, hidden, found.features[0], soft_nll)

    def differentiate(self, loss: Float[Tensor, ""]) -> dict[str, Tensor]:
        """Return the gradient of each parameter; the encoder has none."""
        named = {name: part for name, part in self.model.named_parameters() if not name.startswith("encoder.")}
        return dict(zip(named, torch.autograd.grad(loss, list(named.values()), materialize_grads=True), strict=True))
