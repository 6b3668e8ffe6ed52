"""Trained models joined to one that writes with a weighted product of their probabilities.

attendgen ensemble RUN RUN ... --out RUN
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from tqdm import tqdm

from attendgen.construction import construct
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

PASSES = 4  # of Newton's method over the split: its error is squared by each


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
        "members": [{**OmegaConf.to_container(run.config.model), "_partial_": True} for run in found],  # type: ignore[dict-item]
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
    """The weights of a task's ensemble that give texts the least cross-entropy; they are put in place, too.

    The cross-entropy is a convex function of the weights, a log-linear model's of its features' (Heskes 1998), so that
    Newton's method finds the least.

    Args:
        batches: all of the texts, anew at each call.

    Raises:
        UserError: the members are worse than chance.
    """
    model: Ensemble = task.eval().requires_grad_(False).model
    best, least = model.weights, math.inf
    step = torch.zeros_like(best)
    for _ in tqdm(range(PASSES), desc="weights", leave=False):
        weights = model.weights = (best + step).requires_grad_()
        loss, gradient = 0.0, torch.zeros_like(best)
        curvature = torch.zeros(len(best), len(best))
        for batch in tqdm(batches(), desc="predictions", leave=False):
            nats, _ = task.nats(batch)
            (slope,) = torch.autograd.grad(nats, weights, create_graph=True)
            curvature += torch.stack([torch.autograd.grad(one, weights, retain_graph=True)[0] for one in slope])
            gradient += slope.detach()
            loss += nats.item()
        if loss > least:  # too far: half of the way
            step = step / 2
            continue
        best, least = weights.detach(), loss
        step = -torch.linalg.lstsq(curvature, gradient.unsqueeze(1)).solution.squeeze(1)  # equal members share theirs
    if best.max() <= 0:
        raise UserError("--fit: no member predicts the split better than chance")
    model.weights = best
    return best.tolist()


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
