"""Importing other projects' checkpoints as runs, without executing anything that is in them.

attendgen import textgenerate FILE --out RUN
attendgen import sgrvinod CHECKPOINT WORDMAP --out RUN
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from torch import Tensor

from attendgen.config.instantiate import instantiate
from attendgen.config.resolvers import register_resolvers
from attendgen.postprocess.sgrvinod import read_tutorial
from attendgen.runs.checkpoint import read_weights
from attendgen.runs.save import require_new, save_model_as_run
from attendgen.text.normalizers import PRINTABLE
from attendgen.text.vocabulary import Vocabulary
from attendgen.utils.errors import UserError
from attendgen.utils.resources import get_conf_dir

NEVER = -1e4  # the logit of a token that the imported model does not know; finite in half precision, too


class Imported(NamedTuple):
    """What an importer makes of a checkpoint."""

    config: DictConfig
    family: str
    vocabulary: Vocabulary
    weights: dict[str, Tensor]


def read_textgenerate(path: Path) -> Imported:
    """Read a checkpoint of Text-Generation (https://github.com/ApurbaSengupta/Text-Generation).

    Its tokens are `string.printable`. The special tokens, which it does not know, are read as zeros and never
    predicted.

    Raises:
        UserError: the file is missing, broken, or of another model.
    """
    weights = read_weights(path)
    vocabulary = Vocabulary(PRINTABLE, normalizer="printable")
    specials = len(vocabulary.specials)
    for name in ("encoder.weight", "out.weight", "out.bias"):
        if name not in weights or len(weights[name]) != len(PRINTABLE):
            found = tuple(weights[name].shape) if name in weights else "missing"
            expected = f"{len(PRINTABLE)} rows, one per printable character"
            raise UserError(f"{path}: field {name}: {found}; expected {expected}; give a checkpoint with it")
        fill = NEVER if name == "out.bias" else 0.0
        unknown = weights[name].new_full((specials, *weights[name].shape[1:]), fill)
        weights[name] = torch.cat([unknown, weights[name]])
    layers = sum(name.startswith("lstm.weight_hh_l") and "reverse" not in name for name in weights)
    sizes = [f"model.hidden={weights['encoder.weight'].size(1)}", f"model.layers={layers}"]
    return Imported(compose_experiment("novels_textgenerate", sizes), "language_model", vocabulary, weights)


def compose_experiment(experiment: str, overrides: list[str]) -> DictConfig:
    """Return an experiment's config."""
    register_resolvers()
    with initialize_config_dir(str(get_conf_dir()), version_base="1.3"):
        return compose("train", [f"experiment={experiment}", *overrides])


def read_sgrvinod(checkpoint: Path, word_map: Path) -> Imported:
    """Read a captioner of sgrvinod's tutorial, see `attendgen.postprocess.sgrvinod`.

    Raises:
        UserError: a file is missing, broken, or of another model.
    """
    read = read_tutorial(checkpoint, word_map)
    fixed = [
        "model/encoder=resnet101",
        "model.encoder.weights=null",
        "model.encoder.size=256",
        "model.encoder.grid_size=14",
        "model.feature_dim=null",
        "model.attention.activation=relu",
        "model.context_gate=vector",
        "model.init_state_activation=none",
        "model.deep_output=false",
        "decoding.beam_size=5",
    ]
    return Imported(
        compose_experiment("coco_soft", [*fixed, *read.settings]), "captioner", read.vocabulary, read.weights
    )


class Importer(NamedTuple):
    """Reads the files of another project."""

    files: tuple[str, ...]
    read: Callable[..., Imported]


IMPORTERS = {
    "textgenerate": Importer(("CHECKPOINT",), read_textgenerate),
    "sgrvinod": Importer(("CHECKPOINT", "WORDMAP"), read_sgrvinod),
}


def import_run(kind: str, paths: Sequence[Path], folder: Path) -> None:
    """Write a run directory of another project's files.

    Raises:
        UserError: the kind is unknown, a file is wrong, or the folder holds a run.
    """
    if kind not in IMPORTERS:
        raise UserError(f"import {kind}: unknown; choose one of {', '.join(IMPORTERS)}")
    importer = IMPORTERS[kind]
    if len(paths) != len(importer.files):
        raise UserError(f"import {kind}: {len(paths)} files; expected {' '.join(importer.files)}")
    require_new(folder)
    config, family, vocabulary, weights = importer.read(*paths)
    config.name = kind
    model = instantiate(config.model, "model", **vocabulary.sizes())
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"{paths[0]}: weights of another model: {reason}; give a checkpoint of {kind}") from error
    save_model_as_run(folder, config, family, vocabulary, model)
