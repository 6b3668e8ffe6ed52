"""Bundled models: trained models that travel with the package."""

import contextlib
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from attendgen.config.instantiate import get_first_line, instantiate
from attendgen.config.saved import record_config
from attendgen.config.trust import REFERENCE, iterate_values
from attendgen.data.captions.features import fingerprint, get_image_encoder
from attendgen.runs.layout import CONFIG, VOCABULARY, WEIGHTS
from attendgen.runs.run import Run, detach_encoder
from attendgen.runs.weights import save_weights
from attendgen.text.vocabulary import save_vocabulary
from attendgen.utils.errors import UserError
from attendgen.utils.files import write_text

KEPT = (
    *("name", "family", "seed", "steps", "epochs", "validate_every"),
    *("monitor", "metrics", "decoding", "data", "model", "task"),
)


def bundle(
    run: Run, name: str, folder: Path, defaults: dict[str, Any], bits: int = 16, four_bits: str | None = None
) -> None:
    """Write a trained model as a bundled model: config, vocabulary and weights.

    The weights of a frozen encoder that another package holds are left out.

    Args:
        folder: of the new model.
        defaults: fields of the config that must not say where this machine keeps its files, by dotted key.
        bits, four_bits: of a weight; see `save_weights`.

    Raises:
        UserError: a field of the config names an absolute path that `defaults` does not replace, or `four_bits` finds
            no matrix.
    """
    whole = record_config(run.config)
    config = OmegaConf.create({key: whole[key] for key in KEPT if key in whole})
    paths = {"paths.outputs": "outputs", "paths.cache": "data/cache", "paths.run": f"outputs/bundled/{name}"}
    paths["paths.data"] = "data"
    for key, value in {**paths, **defaults}.items():
        OmegaConf.update(config, key, value, merge=False)
    try:
        data = record_config(config, kept=REFERENCE)
    except OmegaConfBaseException as error:
        raise UserError(
            f"{run.folder}: a bundled model keeps only {', '.join(KEPT)}: {get_first_line(error)}; "
            "replace references to other fields by their values"
        ) from error
    for key, value in iterate_values(data, run.folder):
        if isinstance(value, str) and Path(value).is_absolute():
            raise UserError(f"{run.folder}: {key}={value} names a folder of this machine; give another")
    model = run.load_model()
    in_package = _is_packaged(run.config.model.get("encoder"), model)
    with detach_encoder(model) if in_package else contextlib.nullcontext():
        save_weights(model, folder / WEIGHTS, bits, four_bits)
    save_vocabulary(run.vocabulary, folder / VOCABULARY)
    write_text(folder / CONFIG, yaml.safe_dump(data, sort_keys=False, allow_unicode=True))


def _is_packaged(settings: DictConfig | None, model: nn.Module) -> bool:
    """Return whether the model's encoder has exactly the weights that an installed package holds."""
    if not settings or not settings._target_.endswith(".EfficientNetLite") or not settings.pretrained:
        return False
    encoder = get_image_encoder(model)
    return encoder is not None and fingerprint(instantiate(settings)) == fingerprint(encoder)
