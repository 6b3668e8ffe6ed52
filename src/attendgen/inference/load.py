"""Loading a trained model."""

from collections.abc import Sequence
from pathlib import Path

import torch

from attendgen.config.trust import trust as trust_packages
from attendgen.decoding.graphs import DecodingGraphs
from attendgen.inference.base import TrainedModel
from attendgen.inference.image_captioner import ImageCaptioner
from attendgen.inference.table_writer import TableWriter
from attendgen.inference.text_generator import TextGenerator
from attendgen.inference.translator import Translator
from attendgen.runs.run import Run, convert_precision
from attendgen.utils.devices import find_device, require_gpu
from attendgen.utils.errors import UserError
from attendgen.utils.precision import require_precision

FAMILIES: dict[str, type[TrainedModel]] = {
    "seq2seq": Translator,
    "language_model": TextGenerator,
    "captioner": ImageCaptioner,
    "table": TableWriter,
}


def load(
    run: str | Path | Run,
    trust: Sequence[str] = (),
    device: str | torch.device = "cpu",
    precision: str = "32",
    compile: bool = False,  # noqa: A002  # as the option of the commands
) -> TrainedModel:
    """Load a trained model from a run directory, a `.ckpt` file or a bundled model's name.

    A task of the user's own is served as the family of the task of AttendGen that it is derived from.

    Args:
        trust: Python packages of the user's own, whose classes the run may name.
        device: "cpu", "cuda", "cuda:N", or "auto", a GPU if there is one.
        precision: of the weights: "32", or "bf16", which is faster and rounds log-probabilities.
        compile: replay decoding steps as CUDA graphs, which needs a GPU.

    Raises:
        UserError: it is missing or broken, its family is unknown, there is no such device or precision, or decoding is
            compiled without a GPU.
    """
    place, precision = find_device(device), require_precision(precision)
    if compile:
        require_gpu("--compile", place)
    trust_packages(trust)
    run = run if isinstance(run, Run) else Run.find(run)
    if run.family not in FAMILIES:
        families = ", ".join(FAMILIES)
        raise UserError(f"{run.folder or run.checkpoint}: family={run.family}: unknown; expected one of {families}")
    model = convert_precision(run.load_model(), precision)
    loaded = FAMILIES[run.family](run, model.to(place))
    loaded.graphs = DecodingGraphs() if compile else None
    return loaded
