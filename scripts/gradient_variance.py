"""How noisy each estimator's gradient is on one real batch, at equal cost.

python scripts/gradient_variance.py RUN --out docs/gradient_variance.png data.root=DIR

RUN is a trained captioner. The gradient of the same batch is estimated again and again with new ways of looking and no
dropout; the variance is summed over parameters and multiplied by the paths that an estimate costs, the soft path being
one: what is compared is an average of as many estimates as the same work buys.
"""

import argparse
from pathlib import Path

import lightning
import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from attendgen import plotting
from attendgen.cli import print_table
from attendgen.construction import construct
from attendgen.data.batch import CaptionBatch
from attendgen.data.captions import CaptionDataModule
from attendgen.errors import UserError
from attendgen.layers.selection import SemiSampled, StraightThroughGumbel, sampled
from attendgen.losses.reinforce import Estimator, LeaveOneOut, MovingBaseline, Pathwise, SoftBaseline
from attendgen.runs import Run, serve
from attendgen.tasks.captioning import CaptioningTask


def estimators(nats: float) -> dict[str, Estimator]:
    """What is compared; the moving average stands where training would have brought it, at `nats` a word."""
    recipe, plain = MovingBaseline(SemiSampled(0.5)), MovingBaseline(sampled, entropy=0.0)
    for moving in (recipe, plain):
        moving.baseline.fill_(nats)
    return {
        "moving baseline (authors)": recipe,
        "moving baseline, no semi-sampling": plain,
        "leave one out, 2 paths": LeaveOneOut(sampled, 2),
        "leave one out, 4 paths": LeaveOneOut(sampled, 4),
        "soft baseline, 1 path": SoftBaseline(sampled),
        "soft baseline, 4 paths": SoftBaseline(sampled, 4),
        "straight-through Gumbel (biased)": Pathwise(StraightThroughGumbel()),
    }


def gradient(task: CaptioningTask, batch: CaptionBatch, estimator: Estimator) -> Tensor:
    """One estimate of the attention's gradient, flat."""
    parameters = [p for name, p in task.model.named_parameters() if name.startswith("decoder.attention")]
    task.zero_grad(set_to_none=True)
    task.hard_loss(batch, estimator).backward()
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters]).double()


def spread(task: CaptioningTask, batch: CaptionBatch, estimator: Estimator, repeats: int) -> tuple[float, float]:
    """The variance of an estimate summed over the attention's parameters, and the squared norm of the mean."""
    total, squares = torch.zeros(()), 0.0
    for _ in tqdm(range(repeats), leave=False):
        estimate = gradient(task, batch, estimator)
        total, squares = total + estimate, squares + estimate.square().sum().item()
    mean = (total / repeats).square().sum().item()
    variance = (squares / repeats - mean) * repeats / (repeats - 1)
    return variance, max(mean - variance / repeats, 0.0)


def draw(names: list[str], variances: list[float], path: Path) -> None:
    """Bars on a logarithmic axis, relative to the first."""
    figure = Figure(figsize=(7.5, 0.45 * len(names) + 1.0), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.barh(names, [variance / variances[0] for variance in variances], color="#4878a8")
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.set_xlabel("variance at equal cost, relative to the authors' recipe")
    axes.axvline(0.1, color="0.5", linewidth=0.8, linestyle=":")
    axes.spines[["top", "right"]].set_visible(False)
    plotting.save(figure, path)


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--repeats", type=int, default=60, help="estimates of each")
    parser.add_argument("--out", type=Path, default=Path("gradient_variance.png"))
    options = parser.parse_args()
    run = Run.find(options.run)
    config = run.overridden(options.overrides)
    lightning.seed_everything(0, verbose=False)
    data = construct(config.data)
    task = run.build(config)
    if not isinstance(data, CaptionDataModule) or not isinstance(task, CaptioningTask):
        raise UserError(f"{options.run}: no captioner")
    serve(data, task, run.vocabulary)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    task.log = lambda *arguments, **settings: None  # type: ignore[method-assign]
    task.by_caption, task.penalty, task.smoothing = False, 0.0, 0.0
    with torch.no_grad():
        nats = task.soft_loss(batch).item()
    rows, variances = [], []
    chosen = estimators(nats)
    for name, estimator in chosen.items():
        if isinstance(estimator, torch.nn.Module):
            estimator.eval()
        variance, signal = spread(task, batch, estimator, options.repeats)
        cost = estimator.paths + estimator.soft
        variances.append(variance * cost)
        ratio = variances[0] / variances[-1]
        rows.append([name, str(cost), f"{variance:.3g}", f"{variance * cost:.3g}", f"{ratio:.1f}", f"{signal:.3g}"])
    print(f"{len(batch.images)} pictures, {nats:.2f} nats a word, {options.repeats} estimates each")
    print_table(["estimator", "paths", "variance", "x paths", "times below", "|mean|^2"], rows)
    draw(list(chosen), variances, options.out)
    print(options.out)


if __name__ == "__main__":
    main()
