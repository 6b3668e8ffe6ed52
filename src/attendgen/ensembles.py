"""Trained models joined to one that writes with a weighted product of their probabilities.

attendgen ensemble RUN RUN ... --out RUN
"""

import contextlib
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from omegaconf import OmegaConf
from torch import Tensor
from tqdm import tqdm

from attendgen.construction import construct
from attendgen.data.batch import real
from attendgen.data.features import signature
from attendgen.decoding.protocol import PieceReader, Reader
from attendgen.errors import UserError
from attendgen.models.encoders import GridEncoder
from attendgen.models.ensemble import CaptionerEnsemble, Ensemble, ReaderEnsemble
from attendgen.runs import (
    Run,
    fetch_no_weights,
    opened,
    require_new,
    require_split,
    save_made,
    without_encoder,
)
from attendgen.tasks.captioning import CaptioningTask

log = logging.getLogger(__name__)

ITERATIONS = 20  # at most, of Newton's method
LENGTHS = (1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32)  # of the steps that are tried, as shares of Newton's
TOLERANCE = 1e-6  # nats per symbol: a step that promises less is the last
PREDICTIONS = 64  # expanded at once: what stays in the processor's cache is twice as fast


def make_ensemble(
    names: Sequence[str], folder: Path, weights: Sequence[float] | None = None, fit: str | None = None
) -> list[float]:
    """Make a run directory of trained models that write together; data and decoding are those of the first.

    Args:
        names: run directories, `.ckpt` files, or bundled models.
        weights: one for each, exponents of their probabilities; the geometric mean unless given.
        fit: the split on which weights are found instead.

    Returns:
        The weights.

    Raises:
        UserError: there are fewer than two; they differ in family, vocabulary, encoder, or in how they read texts; one
            is an ensemble itself; the folder holds a run; or there is no such split.
    """
    if fit is not None:
        require_split("--fit", fit)
    found = find_alike("ensemble", names, folder)
    first = found[0]
    tasks: list[Any] = [run.build() for run in found]
    kinds = {_kind(name, task) for name, task in zip(names, tasks, strict=True)}
    if len(kinds) > 1:
        raise UserError(f"ensemble: some of {', '.join(names)} read windows, others streams; see data.streams")
    kind = kinds.pop()
    settings: dict[str, Any] = {
        "_target_": f"{kind.__module__}.{kind.__name__}",
        "members": [{**OmegaConf.to_container(run.config.model, resolve=True), "_partial_": True} for run in found],  # type: ignore[dict-item]
        "weights": list(weights) if weights else None,
    }
    if kind is CaptionerEnsemble:
        _require_one_encoder(names, [task.model.encoder for task in tasks])
        encoders = [member.pop("encoder") for member in settings["members"]]
        settings["encoder"] = encoders[0]
    config = first.config.copy()
    OmegaConf.set_struct(config, False)
    config.model = settings
    bare = OmegaConf.create(settings)
    if kind is CaptionerEnsemble:
        fetch_no_weights(bare.encoder)
    model = construct(bare, **first.vocabulary.sizes())
    if kind is CaptionerEnsemble:
        model.encoder.load_state_dict(tasks[0].model.encoder.state_dict())
    for member, task in zip(model.members, tasks, strict=True):
        with without_encoder(task.model) if kind is CaptionerEnsemble else contextlib.nullcontext():
            member.load_state_dict(task.model.state_dict())
    if fit is not None:
        task = construct(config.task, model=model, vocabulary=first.vocabulary)
        data = opened(config, task, first.vocabulary, fit)
        config.model.weights = fit_weights(task, data.val_dataloader)
    save_made(folder, config, first.vocabulary, model)
    return model.weights.tolist()


def fit_weights(task: Any, batches: Callable[[], Iterable[Any]]) -> list[float]:
    """Find the weights with which a task's ensemble has the least cross-entropy, set them, and return them.

    The cross-entropy is a convex function of the weights (Heskes 1998). Each iteration of Newton's method reads the
    texts once and tries several step lengths. A warning is logged if the iterations end before the optimum.

    Args:
        batches: returns all batches of the split, anew at each call.

    Raises:
        UserError: no member predicts the split better than chance, or a log-probability is not finite.
    """
    model: Ensemble = task.eval().model
    (best,) = expand(task, batches, [model.weights.double()])
    if not math.isfinite(best.nats):
        raise UserError("--fit: a member's log-probabilities are not finite; leave that member out")
    reach = 1.0  # the longest step that is tried; less where even the shortest overshot
    for _ in tqdm(range(ITERATIONS), desc="weights", leave=False):
        step = best.newton_step()
        gain = best.predicted_gain(step)
        tried = expand(task, batches, [best.weights + reach * length * step for length in LENGTHS])
        nearest = min([best, *tried], key=lambda expansion: expansion.nats)
        reach = reach * LENGTHS[-1] if nearest is best else 1.0
        best = nearest
        if gain <= TOLERANCE * best.symbols:
            break
    else:
        log.warning(
            "--fit: the weights did not converge in %d iterations: about %.2g nats per symbol can still be gained",
            ITERATIONS,
            gain / best.symbols,
        )
    if best.weights.max() <= 0:
        raise UserError("--fit: no member predicts the split better than chance")
    model.weights = best.weights.to(model.weights)
    return model.weights.tolist()


class Expansion:
    """The cross-entropy of texts around some weights, to second order, summed over the symbols added so far.

    With r_sm = log p_m(s) - log p_m(target), a symbol's cross-entropy is log sum_s exp(w . r_s); its gradient is the
    mean of r_s, and its curvature the covariance, under the ensemble's probabilities.

    Args:
        weights: where to expand.
    """

    def __init__(self, weights: Float[Tensor, " members"]) -> None:
        self.weights = weights
        self.nats, self.symbols = 0.0, 0
        self.gradient = torch.zeros_like(weights)
        self.curvature = torch.zeros_like(weights).diag()

    def add(self, ratios: Float[Tensor, "members predictions symbols"]) -> None:
        """Add the log-ratios r of some targets."""
        logits = torch.einsum("m,mps->ps", self.weights.to(ratios), ratios)
        probs = logits.softmax(dim=-1)
        mean = torch.einsum("ps,mps->mp", probs, ratios)
        spread = ((ratios - mean.unsqueeze(-1)) * probs.sqrt()).flatten(1)
        self.nats += float(logits.logsumexp(dim=-1).double().sum())
        self.symbols += ratios.size(1)
        self.gradient += mean.double().sum(dim=1)
        self.curvature += (spread @ spread.T).double()

    def newton_step(self) -> Float[Tensor, " members"]:
        """Return the step to the expansion's minimum: the shortest one, so that equal members share their weight."""
        # below this condition number the single precision of the log-ratios is noise
        solution = torch.linalg.lstsq(self.curvature, self.gradient.unsqueeze(1), rcond=1e-6).solution
        return -solution.squeeze(1)

    def predicted_gain(self, step: Float[Tensor, " members"]) -> float:
        """Return by how many nats a Newton step lowers the expansion: half the squared Newton decrement."""
        return -float(self.gradient @ step) / 2


def expand(task: Any, batches: Callable[[], Iterable[Any]], candidates: Sequence[Tensor]) -> list[Expansion]:
    """Expand the cross-entropy of all batches around each of several weights; the members read each batch once."""
    expansions = [Expansion(weights) for weights in candidates]
    with torch.no_grad():
        for batch in tqdm(batches(), desc="predictions", leave=False):
            with task.model.recording() as recorded:
                task.nats(batch)
            (log_probs,) = recorded
            for ratios in log_ratios(log_probs, batch.outputs).split(PREDICTIONS, dim=1):
                for expansion in expansions:
                    expansion.add(ratios)
    return expansions


def log_ratios(
    log_probs: Float[Tensor, "*rows symbols members"], targets: Int[Tensor, "*rows"]
) -> Float[Tensor, "members predictions symbols"]:
    """Return log p_m(symbol) - log p_m(target) of each target that is not <pad>."""
    mask = real(targets)
    log_probs = log_probs[mask].movedim(-1, 0).contiguous()  # members predictions symbols
    return log_probs - log_probs.gather(-1, targets[mask].expand(len(log_probs), -1).unsqueeze(-1))


def find_alike(command: str, names: Sequence[str], folder: Path) -> list[Run]:
    """The runs that a command makes one of, in a new folder.

    Raises:
        UserError: there are fewer than two; they differ in family or vocabulary; one is an ensemble; or the folder
            holds a run.
    """
    if len(names) < 2:
        raise UserError(f"{command}: name two runs or more")
    require_new(folder)
    runs = [Run.find(name) for name in names]
    first = runs[0]
    for name, run in zip(names, runs, strict=True):
        if run.config.task._target_ != first.config.task._target_:
            raise UserError(f"{name}: task {run.config.task._target_}; {names[0]} has {first.config.task._target_}")
        if run.vocabulary.to_dict() != first.vocabulary.to_dict():
            raise UserError(f"{name}: vocabulary: other symbols than those of {names[0]}")
        if "members" in run.config.model:
            raise UserError(f"{name}: model.members: an ensemble itself; name its members")
    return runs


def _require_one_encoder(names: Sequence[str], encoders: Sequence[GridEncoder]) -> None:
    """
    Raises:
        UserError: captioners look through different encoders.
    """
    signatures = [signature(encoder) for encoder in encoders]
    for name, one in zip(names, signatures, strict=True):
        if one != signatures[0]:
            raise UserError(f"{name}: model.encoder: {one}, not the {signatures[0]} of {names[0]}")


def _kind(name: str, task: Any) -> type[Ensemble]:
    if isinstance(task.model, PieceReader):
        raise UserError(
            f"{name}: model {type(task.model).__name__} reads piece by piece: it takes no part in ensembles"
        )
    if isinstance(task, CaptioningTask):
        return CaptionerEnsemble
    return ReaderEnsemble if isinstance(task.model, Reader) else Ensemble
