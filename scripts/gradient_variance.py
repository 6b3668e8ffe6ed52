"""Variance of each estimator of hard attention's gradient, on one batch, at equal cost.

python scripts/gradient_variance.py RUN --out docs/gradient_variance.png data.root=DIR

RUN is a trained captioner. The gradient of the attention's parameters is estimated many times for the same batch, each
time with new samples of locations and without dropout. The variance is summed over the parameters and multiplied by the
number of samples per estimate (soft attention counts as one), which gives the variance of an average of as many
estimates as the same computation allows.

An estimate may be a multiple of the gradient: the weight of the authors' estimator is a hyperparameter. Its variance
can be compared only after division by the square of this factor, which is measured, too: the projection of the mean
estimate onto the gradient. The gradient is taken to be the mean of all unbiased estimates.
"""

import argparse
import inspect
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import lightning
import torch
from hydra.utils import get_object
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
    task.zero_grad(set_to_none=True)
    task.training_step(batch, 0).backward()
    parameters = [p for name, p in task.model.named_parameters() if name.startswith("decoder.attention.")]
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters]).double()


class Estimate(NamedTuple):
    """Mean of several estimates, their variance summed over the parameters, and the samples that each of them needs."""

    mean: Tensor
    variance: float
    cost: int


def measure(task: HardAttentionTask, batch: CaptionBatch, samples: int) -> Estimate:
    """Estimate the gradient of one batch as often as `samples` samples allow, at least twice."""
    cost = task.estimator.num_samples + task.estimator.soft
    repeats = max(2, samples // cost)
    total, squares = torch.zeros(()), 0.0
    for _ in track(range(repeats), "gradients", "repeats"):
        gradient = estimate_gradient(task, batch)
        total, squares = total + gradient, squares + gradient.square().sum().item()
    mean = total / repeats
    variance = (squares / repeats - mean.square().sum().item()) * repeats / (repeats - 1)
    return Estimate(mean, variance, cost)


def pool(estimates: Sequence[Estimate]) -> Tensor:
    """Return the mean of unbiased estimates, weighted by their inverse variance."""
    weights = torch.tensor([1 / estimate.variance for estimate in estimates], dtype=torch.double)
    return (weights / weights.sum()) @ torch.stack([estimate.mean for estimate in estimates])


def plot_variances(names: Sequence[str], variances: Sequence[float], path: Path) -> None:
    """Draw the variances relative to the first, as bars on a logarithmic axis."""
    figure = Figure(figsize=(7.5, 0.45 * len(names) + 1.0), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.barh(names, [variance / variances[0] for variance in variances], color="#4878a8")
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.set_xlabel("variance at equal cost and scale, relative to the authors' estimator")
    axes.axvline(0.1, color="0.5", linewidth=0.8, linestyle=":")
    axes.spines[["top", "right"]].set_visible(False)
    plotting.save(figure, path)


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
        name: measure(build_task(model, run, estimator), batch, options.samples)
        for name, estimator in estimators.items()
    }
    gradient = pool([estimates[name] for name, estimator in estimators.items() if isinstance(estimator, UNBIASED)])
    norm = gradient.square().sum().item()
    rows, costs, variances = [], [], []
    for name, estimate in estimates.items():
        factor = (estimate.mean @ gradient).item() / norm
        costs.append(estimate.variance * estimate.cost)
        variances.append(costs[-1] / factor**2)
        rows.append(
            [
                name,
                str(estimate.cost),
                f"{estimate.variance:.3g}",
                f"{costs[0] / costs[-1]:.2g}",
                f"{factor:.2f}",
                f"{variances[-1]:.3g}",
                f"{variances[0] / variances[-1]:.2g}",
            ]
        )
    print(
        f"{len(batch.images)} images, {mean_nll:.2f} nats per word, {options.samples} samples per estimator; "
        f"squared norm of the gradient {norm:.3g}"
    )
    header = [
        "estimator",
        "samples",
        "variance",
        "times less at equal cost",
        "factor",
        "at equal cost and scale",
        "times less",
    ]
    print_table(header, rows)
    plot_variances(list(estimators), variances, options.out)
    print(options.out)


if __name__ == "__main__":
    main()
