"""Trained models joined to one that writes with the mean of their probabilities.

attendgen ensemble RUN RUN ... --out RUN
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from attendgen.construction import construct
from attendgen.data.features import fingerprint
from attendgen.decoding.protocol import PieceReader, Reader
from attendgen.errors import UserError
from attendgen.models.ensemble import CaptionerEnsemble, Ensemble, ReaderEnsemble
from attendgen.runs import NO_WEIGHTS, Run, require_new, save_made
from attendgen.tasks.captioning import CaptioningTask


def make_ensemble(names: Sequence[str], folder: Path, weights: Sequence[float] | None = None) -> None:
    """Make a run directory of trained models that write together; data and decoding are those of the first.

    Args:
        names: run directories, `.ckpt` files, or bundled models.
        weights: one for each, in proportion; the same for all unless given.

    Raises:
        UserError: there are fewer than two; they differ in family, vocabulary, encoder, or in how they read texts; one
            is an ensemble itself; or the folder holds a run.
    """
    if len(names) < 2:
        raise UserError("ensemble: name two runs or more")
    require_new(folder)
    found = [Run.find(name) for name in names]
    first = found[0]
    for name, run in zip(names, found, strict=True):
        if run.config.task._target_ != first.config.task._target_:
            raise UserError(f"{name}: task {run.config.task._target_}; {names[0]} has {first.config.task._target_}")
        if run.vocabulary.to_dict() != first.vocabulary.to_dict():
            raise UserError(f"{name}: vocabulary: other symbols than those of {names[0]}")
        if "members" in run.config.model:
            raise UserError(f"{name}: model.members: an ensemble itself; name its members")
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
        prints = [fingerprint(task.model.encoder) for task in tasks]
        for name, one in zip(names, prints, strict=True):
            if one != prints[0]:
                raise UserError(f"{name}: model.encoder: another one than that of {names[0]}, or other weights")
        encoders = [member.pop("encoder") for member in settings["members"]]
        settings["encoder"] = encoders[0]
    config = first.config.copy()
    OmegaConf.set_struct(config, False)
    config.model = settings
    bare = OmegaConf.create(settings)
    if kind is CaptionerEnsemble:
        bare.encoder.update({key: value for key, value in NO_WEIGHTS.items() if key in bare.encoder})
    model = construct(bare, **first.vocabulary.sizes())
    for member, task in zip(model.members, tasks, strict=True):
        if kind is CaptionerEnsemble:
            model.encoder.load_state_dict(task.model.encoder.state_dict())
            task.model.encoder = member.encoder  # which holds nothing
        member.load_state_dict(task.model.state_dict())
    save_made(folder, config, first.vocabulary, model)


def _kind(name: str, task: Any) -> type[Ensemble]:
    if isinstance(task.model, PieceReader):
        raise UserError(
            f"{name}: model {type(task.model).__name__} reads piece by piece: it takes no part in ensembles"
        )
    if isinstance(task, CaptioningTask):
        return CaptionerEnsemble
    return ReaderEnsemble if isinstance(task.model, Reader) else Ensemble
