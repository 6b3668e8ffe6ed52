"""How noisy each estimator's gradient is on one real batch, at equal cost.

python scripts/gradient_variance.py RUN --out docs/gradient_variance.png data.root=DIR

RUN is a trained captioner. The gradient of the same batch is estimated again and again with new ways of looking and no
dropout; the variance is summed over parameters and multiplied by the paths that an estimate costs, the soft path being
one: what is compared is an average of as many estimates as the same work buys.

An estimate may be the gradient times a factor, as the authors' is, whose weight is a setting: its variance then says
nothing until that factor is divided out. The factor is measured, too: how far the mean estimate reaches along the
gradient, which is the mean of all unbiased estimates.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import lightning
import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from attendgen.cli.script import script
from attendgen.config.instantiate import instantiate
from attendgen.data.batch import CaptionBatch
from attendgen.data.captions.module import CaptionDataModule
from attendgen.layers.hard_attention import SemiSampler, StraightThroughGumbelSampler, sampled
from attendgen.losses.score_function import (
    Estimator,
    LeaveOneOutEstimator,
    MovingAverageBaseline,
    SoftBaselineEstimator,
    StraightThroughGumbelEstimator,
)
from attendgen.runs.run import Run, serve
from attendgen.tasks.captioning import CaptioningTask
from attendgen.utils.errors import UserError
from attendgen.utils.tables import print_table
from attendgen.visualization import plotting

UNBIASED = (LeaveOneOutEstimator, SoftBaselineEstimator)


def estimators(nats: float) -> dict[str, Estimator]:
    """What is compared; the moving average stands where training would have brought it, at `nats` a word."""
    recipe, plain = MovingAverageBaseline(SemiSampler(0.5)), MovingAverageBaseline(sampled, entropy=0.0)
    for moving in (recipe, plain):
        moving.baseline.fill_(nats)
    return {
        "moving baseline (authors)": recipe,
        "moving baseline, no semi-sampling": plain,
        "leave one out, 2 paths": LeaveOneOutEstimator(sampled, 2),
        "leave one out, 4 paths": LeaveOneOutEstimator(sampled, 4),
        "soft baseline, 1 path": SoftBaselineEstimator(sampled),
        "soft baseline, 4 paths": SoftBaselineEstimator(sampled, 4),
        "straight-through Gumbel (biased)": StraightThroughGumbelEstimator(StraightThroughGumbelSampler()),
    }


def gradient(task: CaptioningTask, batch: CaptionBatch, estimator: Estimator) -> Tensor:
    """One estimate of the attention's gradient, flat."""
    parameters = [p for name, p in task.model.named_parameters() if name.startswith("decoder.attention")]
    task.zero_grad(set_to_none=True)
    task.hard_loss(batch, estimator).backward()
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters]).double()


@dataclass
class Spread:
    """Of an estimate: the mean, flat, the variance summed over the parameters, and the paths that it costs."""

    mean: Tensor
    variance: float
    cost: int


def spread(task: CaptioningTask, batch: CaptionBatch, estimator: Estimator, paths: int) -> Spread:
    """How as many estimates of one batch's gradient are spread as so many paths buy, two at least."""
    cost = estimator.num_samples + estimator.soft
    repeats = max(2, paths // cost)
    total, squares = torch.zeros(()), 0.0
    for _ in tqdm(range(repeats), leave=False):
        estimate = gradient(task, batch, estimator)
        total, squares = total + estimate, squares + estimate.square().sum().item()
    mean = total / repeats
    return Spread(mean, (squares / repeats - mean.square().sum().item()) * repeats / (repeats - 1), cost)


def pooled(spreads: list[Spread]) -> Tensor:
    """The mean of unbiased estimates, the less spread the more weight."""
    weights = [1 / found.variance for found in spreads]
    return sum((found.mean * weight for found, weight in zip(spreads, weights, strict=True)), torch.zeros(())) / sum(
        weights
    )


def draw(names: list[str], variances: list[float], path: Path) -> None:
    """Bars on a logarithmic axis, relative to the first."""
    figure = Figure(figsize=(7.5, 0.45 * len(names) + 1.0), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.barh(names, [variance / variances[0] for variance in variances], color="#4878a8")
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.set_xlabel("variance at equal cost and scale, relative to the authors' recipe")
    axes.axvline(0.1, color="0.5", linewidth=0.8, linestyle=":")
    axes.spines[["top", "right"]].set_visible(False)
    plotting.save(figure, path)


@script
def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument(
        "--paths", type=int, default=120, help="drawn for each estimator: the more an estimate, the fewer"
    )
    parser.add_argument("--out", type=Path, default=Path("gradient_variance.png"))
    options = parser.parse_intermixed_args()
    run = Run.find(options.run)
    config = run.override(options.overrides)
    lightning.seed_everything(0, verbose=False)
    data = instantiate(config.data)
    task = run.build(config)
    if not isinstance(data, CaptionDataModule) or not isinstance(task, CaptioningTask):
        raise UserError(f"{options.run}: no captioner")
    serve(data, task, run.vocabulary)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    task.log = lambda *arguments, **settings: None  # type: ignore[method-assign]
    task.by_caption, task.doubly_stochastic_weight, task.label_smoothing = False, 0.0, 0.0
    with torch.no_grad():
        nats = task.soft_loss(batch).item()
    chosen = estimators(nats)
    spreads = {}
    for name, estimator in chosen.items():
        if isinstance(estimator, torch.nn.Module):
            estimator.eval()
        spreads[name] = spread(task, batch, estimator, options.paths)
    true = pooled([spreads[name] for name, estimator in chosen.items() if isinstance(estimator, UNBIASED)])
    norm = true.square().sum().item()
    rows, costly, variances = [], [], []
    for name, found in spreads.items():
        factor = (found.mean @ true).item() / norm
        costly.append(found.variance * found.cost)
        variances.append(costly[-1] / factor**2)
        rows.append(
            [
                name,
                str(found.cost),
                f"{found.variance:.3g}",
                f"{costly[0] / costly[-1]:.2g}",
                f"{factor:.2f}",
                f"{variances[-1]:.3g}",
                f"{variances[0] / variances[-1]:.2g}",
            ]
        )
    print(
        f"{len(batch.images)} pictures, {nats:.2f} nats a word, {options.paths} paths each; "
        f"the gradient's squared norm is {norm:.3g}"
    )
    head = [
        "estimator",
        "paths",
        "variance",
        "times below at equal cost",
        "factor",
        "at equal cost and scale",
        "times below",
    ]
    print_table(head, rows)
    draw(list(chosen), variances, options.out)
    print(options.out)


if __name__ == "__main__":
    main()
