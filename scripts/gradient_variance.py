"""Variance of each estimator of hard attention's gradient, on one batch, at equal cost.

python scripts/gradient_variance.py flickr8k-hard data.root=DIR data.max_samples=8 data.captions_per_image=1

The run is a trained captioner. The gradient of the attention's parameters is estimated many times for the same batch,
each time with new samples of locations and without dropout. The variance is summed over the parameters and multiplied
by the number of samples per estimate (soft attention counts as one), which gives the variance of an average of as many
estimates as the same computation allows.

An estimate may be a multiple of the gradient: the weight of the authors' estimator is a hyperparameter. Its variance
can be compared only after division by the square of this factor, which is measured, too: the projection of the mean
estimate onto the gradient. The gradient is taken to be the mean of all other unbiased estimates.

What follows a "±" is a standard error, by the jackknife: the estimates are put into ten blocks, and every figure is
computed again without each of them.
"""

import argparse
import inspect
import math
import warnings
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import lightning
import torch
from hydra.utils import get_object
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from attendgen.cli.script import script
from attendgen.data.batch import CaptionBatch
from attendgen.data.captions.module import CaptionDataModule
from attendgen.data.module import open_data
from attendgen.decoding.config import DecodingConfig
from attendgen.layers.hard_attention import CategoricalSampler, SemiSampler, StraightThroughGumbelSampler
from attendgen.losses.score_function import (
    Estimator,
    LeaveOneOutEstimator,
    MovingAverageBaseline,
    SoftBaselineEstimator,
    StraightThroughGumbelEstimator,
)
from attendgen.models.captioner import Captioner
from attendgen.optim.schedules import Constant
from attendgen.runs.run import Run
from attendgen.tasks.hard_attention import HardAttentionTask
from attendgen.utils.errors import UserError
from attendgen.utils.progress import track
from attendgen.utils.tables import print_table
from attendgen.visualization import plotting

UNBIASED = (LeaveOneOutEstimator, SoftBaselineEstimator)
BLOCKS = 10  # of the jackknife


def build_estimators(nll: float) -> dict[str, Estimator]:
    """Build the estimators to compare.

    Args:
        nll: mean negative log-likelihood per word, to which training would have brought the moving average.
    """
    sampler = CategoricalSampler()
    authors, sampled = MovingAverageBaseline(SemiSampler(0.5)), MovingAverageBaseline(sampler, entropy=0.0)
    for estimator in (authors, sampled):
        estimator.baseline.fill_(nll)
        estimator.eval()  # keeps the moving average
    return {
        "moving average (authors)": authors,
        "moving average, no semi-sampling": sampled,
        "leave one out, 2 samples": LeaveOneOutEstimator(sampler, 2),
        "leave one out, 4 samples": LeaveOneOutEstimator(sampler, 4),
        "soft baseline, 1 sample": SoftBaselineEstimator(sampler),
        "soft baseline, 4 samples": SoftBaselineEstimator(sampler, 4),
        "straight-through Gumbel (biased)": StraightThroughGumbelEstimator(StraightThroughGumbelSampler()),
    }


def build_own(name: str) -> Estimator:
    """Build an estimator from the name of its class; if it has an argument `sampler`, that is a categorical one.

    Raises:
        UserError: there is no such class, or it needs other arguments.
    """
    try:
        make = get_object(name)
        needs_sampler = "sampler" in inspect.signature(make).parameters
        made: Estimator = make(sampler=CategoricalSampler()) if needs_sampler else make()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"--estimator {name}: {str(error).splitlines()[0]}") from error
    return made


def build_task(model: Captioner, run: Run, estimator: Estimator) -> HardAttentionTask:
    """Build a task whose loss is the mean per word, without regularization; it is never optimized."""
    arguments = (model, run.vocabulary, partial(torch.optim.SGD, lr=0.0), Constant(), DecodingConfig())
    return HardAttentionTask(*arguments, estimator=estimator, doubly_stochastic_weight=0.0)


def estimate_gradient(task: HardAttentionTask, batch: CaptionBatch) -> Tensor:
    """Return one estimate of the gradient of the attention's parameters, as a vector."""
    parameters = [parameter for parameter in task.model.decoder.attention.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(task.training_step(batch, 0), parameters, materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in gradients]).double()


class Estimates(NamedTuple):
    """Sums over estimates of one gradient, in blocks.

    Attributes:
        sums: of the estimates.
        squares: sum of their squared norms.
        counts: estimates per block.
        cost: samples that an estimate needs.
    """

    sums: Float[Tensor, "blocks parameters"]
    squares: Float[Tensor, " blocks"]
    counts: Float[Tensor, " blocks"]
    cost: int

    def leave_out(self, block: int) -> "Estimates":
        """Return all blocks but one."""
        kept = torch.arange(len(self.counts)) != block
        return Estimates(self.sums[kept], self.squares[kept], self.counts[kept], self.cost)

    def mean(self) -> Float[Tensor, " parameters"]:
        """Return the mean estimate."""
        return self.sums.sum(dim=0) / self.counts.sum()

    def variance(self) -> float:
        """Return the variance of one estimate, summed over the parameters."""
        number = self.counts.sum()
        return ((self.squares.sum() / number - self.mean().square().sum()) * number / (number - 1)).item()


def measure(task: HardAttentionTask, batch: CaptionBatch, samples: int, name: str) -> Estimates:
    """Estimate the gradient of one batch as often as `samples` samples allow, at least three times."""
    cost = task.estimator.num_samples + task.estimator.soft
    repeats = max(3, samples // cost)
    blocks = min(BLOCKS, repeats)
    first = estimate_gradient(task, batch)
    made = Estimates(first.new_zeros(blocks, len(first)), first.new_zeros(blocks), first.new_zeros(blocks), cost)
    for index in track(range(repeats), name, "estimates"):
        gradient = estimate_gradient(task, batch) if index else first
        made.sums[index % blocks] += gradient
        made.squares[index % blocks] += gradient.square().sum()
        made.counts[index % blocks] += 1
    return made


def pool(estimates: Sequence[Estimates]) -> tuple[Tensor, float]:
    """Return the mean of unbiased estimates, weighted by their inverse variance, and the gradient's squared norm.

    The squared norm of a noisy mean is too large by its variance, which is subtracted.
    """
    weights = torch.stack([estimate.counts.sum() / estimate.variance() for estimate in estimates])
    mean = (weights / weights.sum()) @ torch.stack([estimate.mean() for estimate in estimates])
    return mean, (mean.square().sum() - 1 / weights.sum()).item()


def compare(estimates: Mapping[str, Estimates], unbiased: Collection[str]) -> Float[Tensor, "estimators 4"]:
    """Return the variance, how many times it is below the first's at equal cost, the factor, and the former at scale.

    Args:
        unbiased: names of those whose mean is the gradient.
    """
    rows = []
    for name, estimate in estimates.items():
        others = [estimates[other] for other in unbiased if other != name]
        gradient, norm = pool(others)
        variance, factor = estimate.variance(), (estimate.mean() @ gradient).item() / norm
        cost = variance * estimate.cost
        rows.append([variance, 1 / cost, factor, factor**2 / cost])
    table = torch.tensor(rows, dtype=torch.double)
    table[:, [1, 3]] /= table[0, [1, 3]].clone()
    return table


def compute_errors(estimates: Mapping[str, Estimates], unbiased: Collection[str]) -> Float[Tensor, "estimators 4"]:
    """Return the standard errors of what `compare` returns, by the jackknife over blocks (Efron 1982)."""
    blocks = min(len(estimate.counts) for estimate in estimates.values())
    parts = ({name: each.leave_out(block) for name, each in estimates.items()} for block in range(blocks))
    without = torch.stack([compare(part, unbiased) for part in parts])
    return ((blocks - 1) * without.var(dim=0, correction=0)).sqrt()


def plot_ratios(names: Sequence[str], ratios: Sequence[float], errors: Sequence[float], path: Path) -> None:
    """Draw how many times each variance is below the first, as bars on a logarithmic axis."""
    figure = Figure(figsize=(7.5, 0.45 * len(names) + 1.0), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.barh(names, ratios, xerr=errors, color="#4878a8", ecolor="0.3", capsize=3)
    axes.set_xscale("log")
    axes.set_xlim(left=min(1.0, *ratios) / 2)
    axes.invert_yaxis()
    axes.set_xlabel("times below the authors' variance, at equal cost and scale")
    axes.axvline(1, color="0.5", linewidth=0.8, linestyle=":")
    axes.spines[["top", "right"]].set_visible(False)
    plotting.save(figure, path)


def format_figure(value: float, error: float) -> str:
    """Format a figure with its standard error, both to the place of the error's first digit."""
    places = max(0, -math.floor(math.log10(error))) if error > 0 else 2
    return f"{value:.{places}f}" + (f" ± {error:.{places}f}" if error > 0 else "")


@script
def main(arguments: list[str] | None = None) -> None:
    """Measure all estimators, print a table and draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="a captioner: a run directory, a .ckpt file or a bundled model")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="changes of the run's config")
    parser.add_argument(
        "--estimator", action="append", default=[], metavar="CLASS", help="one of your own, as mypaper.estimators.VIMCO"
    )
    parser.add_argument("--samples", type=int, default=120, help="samples drawn for each estimator (default 120)")
    parser.add_argument(
        "--out", type=Path, default=Path("gradient_variance.png"), help="the figure (default gradient_variance.png)"
    )
    options = parser.parse_intermixed_args(arguments)
    run = Run.find(options.run)
    config = run.override(options.overrides)
    warnings.filterwarnings("ignore", message=".*`self.trainer` reference is not registered")  # the task is used alone
    lightning.seed_everything(0, verbose=False)
    model = run.load_model(config)
    if not isinstance(model, Captioner):
        raise UserError(f"{options.run}: a {type(model).__name__}; expected a captioner")
    data = open_data(config.data, run.vocabulary, model.encoder)
    assert isinstance(data, CaptionDataModule)
    data.setup("fit")
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)

    with torch.no_grad():
        nll, words = build_task(model, run, LeaveOneOutEstimator(CategoricalSampler())).nll(batch)
    mean_nll = (nll / words).item()
    estimators = {**build_estimators(mean_nll), **{name: build_own(name) for name in options.estimator}}
    estimates = {
        name: measure(build_task(model, run, estimator), batch, options.samples, name)
        for name, estimator in estimators.items()
    }
    unbiased = [name for name, estimator in estimators.items() if isinstance(estimator, UNBIASED)]
    figures, errors = compare(estimates, unbiased), compute_errors(estimates, unbiased)
    _, norm = pool([estimates[name] for name in unbiased])
    print(
        f"{len(batch.images)} images, {mean_nll:.2f} nats per word, {options.samples} samples per estimator; "
        f"squared norm of the gradient {norm:.3g}"
    )
    rows = [
        [name, str(estimates[name].cost), *map(format_figure, values, error)]
        for name, values, error in zip(estimators, figures.tolist(), errors.tolist(), strict=True)
    ]
    print_table(["estimator", "samples", "variance", "times less at equal cost", "factor", "and at equal scale"], rows)
    plot_ratios(list(estimators), figures[:, 3].tolist(), errors[:, 3].tolist(), options.out)
    print(options.out)


if __name__ == "__main__":
    main()
