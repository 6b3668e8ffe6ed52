"""Other projects' checkpoints as runs, read without executing anything that is in them.

attendgen import textgenerate FILE --out RUN
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from attendgen.construction import construct
from attendgen.errors import UserError
from attendgen.resources import conf_dir, register_resolvers
from attendgen.runs import require_new, save_made
from attendgen.transliteration import PRINTABLE
from attendgen.vocabulary import Vocabulary

NEVER = -1e4  # the logit of a symbol that the imported model does not know; finite in half precision, too


def read_weights(path: Path) -> dict[str, Tensor]:
    """A file of named tensors, on the CPU.

    Raises:
        UserError: the file is missing, or holds anything else.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for what is one mistake
        raise UserError(f"{path}: broken, or not a file that loads as plain weights") from error
    if not isinstance(weights, dict) or not all(isinstance(weight, Tensor) for weight in weights.values()):
        raise UserError(f"{path}: not a state dict: expected tensors by name")
    return weights


def textgenerate(path: Path) -> tuple[Any, Vocabulary, dict[str, Tensor]]:
    """Config, vocabulary and weights of a published character model over `string.printable`.

    The symbols that it does not know (<pad>, <sos>, <eos>, <unk>) are read as zeros and never predicted.

    Raises:
        UserError: the file is missing, broken, or of another model.
    """
    weights = read_weights(path)
    vocabulary = Vocabulary(PRINTABLE, normalise="printable")
    specials = len(vocabulary.specials)
    for name in ("encoder.weight", "out.weight", "out.bias"):
        if name not in weights or len(weights[name]) != len(PRINTABLE):
            found = tuple(weights[name].shape) if name in weights else "missing"
            raise UserError(f"{path}: field {name}: {found}; expected {len(PRINTABLE)} rows, one a printable character")
        fill = NEVER if name == "out.bias" else 0.0
        unknown = weights[name].new_full((specials, *weights[name].shape[1:]), fill)
        weights[name] = torch.cat([unknown, weights[name]])
    layers = sum(name.startswith("lstm.weight_hh_l") and "reverse" not in name for name in weights)
    sizes = [f"model.hidden={weights['encoder.weight'].size(1)}", f"model.layers={layers}"]
    return composed("novels_textgenerate", sizes), vocabulary, weights


def composed(experiment: str, overrides: list[str]) -> Any:
    """An experiment's config."""
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("train", [f"experiment={experiment}", *overrides])


IMPORTERS: dict[str, Callable[[Path], tuple[Any, Vocabulary, dict[str, Tensor]]]] = {"textgenerate": textgenerate}


def import_run(kind: str, path: Path, folder: Path) -> None:
    """Make a run directory of another project's checkpoint.

    Raises:
        UserError: the kind is unknown, the file is wrong, or the folder holds a run.
    """
    if kind not in IMPORTERS:
        raise UserError(f"import {kind}: unknown; choose one of {', '.join(IMPORTERS)}")
    require_new(folder)
    config, vocabulary, weights = IMPORTERS[kind](path)
    config.name = kind
    model = construct(config.model, **vocabulary.sizes())
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{path}: weights of another model: {str(error).splitlines()[-1].strip()}") from error
    save_made(folder, config, vocabulary, model)
