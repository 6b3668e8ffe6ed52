"""What a saved run may instantiate.

A config names the classes of its parts, and instantiating a name can run any code. A run, a checkpoint or a bundled
model may come from a stranger, so only the names below are instantiated when one is opened: classes of AttendGen,
optimizers of torch, and parts of Lightning. Code of the user's own needs the user's word for its package: --trust, the
environment variable, `attendgen trust`, or a training of the user's own that used it (`config/trusted.py`).
"""

import importlib
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from hydra.utils import get_object

from attendgen.config.trusted import is_own_code, is_remembered, remember
from attendgen.utils.errors import UserError

log = logging.getLogger(__name__)

VARIABLE = "ATTENDGEN_TRUST"  # packages with commas between; processes that this one starts inherit it


# by module: classes that run no code and write no file when they are made
PUBLIC = {
    "attendgen.callbacks": (
        "EMA EarlyStopping FiniteLoss GradientNorm LastCheckpoint LogInterval LogSamples Progress StepSeed Throughput"
    ),
    "attendgen.data": (
        "CaptionDataModule Coco Flickr8k FlickrCsv JsonLines Karpathy MeaningRepresentations ParallelDataModule "
        "RotoWireGames RotoWireSentences Shapes TableDataModule TableLines TextCaps TextDataModule"
    ),
    "attendgen.decoding": "Constraints DecodingConfig RepetitionPenalty",
    "attendgen.layers": (
        "AdditiveAttention ArgmaxSampler AttentionUnit BahdanauDecoder CategoricalSampler CoverageAttention "
        "DotAttention GeneralAttention LocationSensitiveAttention LuongDecoder MeanAttention MultiHeadAttention "
        "RecordEncoder RowAttention SemiSampler StraightThroughGumbelSampler"
    ),
    "attendgen.losses": (
        "LeaveOneOutEstimator MovingAverageBaseline SoftBaselineEstimator StraightThroughGumbelEstimator"
    ),
    "attendgen.metrics": (
        "Bleu BoxScoreFacts CaptionScores Chrf Nist PairScores RecordScores SlotErrors TableScores Ter"
    ),
    "attendgen.models": (
        "Captioner CaptionerEnsemble ContextLanguageModel EfficientNetLite Ensemble LSTMLanguageModel "
        "PrecomputedFeatures Seq2Seq SmallCNN StatefulEnsemble TableToText TextGenerateLanguageModel "
        "TimmEncoder TorchvisionEncoder TransformerCaptioner TransformerLanguageModel TransformerSeq2Seq"
    ),
    "attendgen.optim": "Constant MuonAdamW WarmupCosine",
    "attendgen.tasks": (
        "CaptioningTask HardAttentionTask HardTableTask LanguageModelTask SelfCriticalTask Seq2SeqTask TableTask"
    ),
    "attendgen.text": "BPETokenizer PairVocabulary PretrainedEmbeddings TableVocabulary UnigramTokenizer Vocabulary",
    "lightning": "Trainer",
    "lightning.pytorch": "Trainer",
    "lightning.pytorch.callbacks": (
        "BackboneFinetuning BatchSizeFinder Checkpoint DeviceStatsMonitor EMAWeightAveraging EarlyStopping "
        "GradientAccumulationScheduler LearningRateFinder LearningRateMonitor ModelCheckpoint ModelPruning "
        "ModelSummary OnExceptionCheckpoint RichModelSummary RichProgressBar SpikeDetection StochasticWeightAveraging "
        "TQDMProgressBar ThroughputMonitor Timer WeightAveraging"
    ),
    "lightning.pytorch.loggers": "CSVLogger CometLogger MLFlowLogger TensorBoardLogger WandbLogger",
    "lightning.pytorch.plugins": (
        "BitsandbytesPrecision DeepSpeedPrecision DoublePrecision FSDPPrecision HalfPrecision MixedPrecision Precision "
        "TorchCheckpointIO TorchSyncBatchNorm TransformerEnginePrecision"
    ),
    "lightning.pytorch.profilers": "AdvancedProfiler PassThroughProfiler PyTorchProfiler SimpleProfiler",
    "lightning.pytorch.strategies": "DDPStrategy DeepSpeedStrategy FSDPStrategy SingleDeviceStrategy",
}
NAMES = {f"{module}.{name}" for module, names in PUBLIC.items() for name in names.split()}

# no part of a model is there: their functions and classes run what they are given
NEVER_TRUSTED = {"attendgen", "hydra", "omegaconf", *sys.stdlib_module_names}
LIBRARIES = NEVER_TRUSTED | {"lightning", "numpy", "torch", "torchvision"}  # no message asks for trust in them

# a reference to another field of a config, or also to a file that travels with the package; all else can compute
FIELD = r"\.*[A-Za-z_][\w.\[\]-]*"
OWN_FIELD = re.compile(rf"\$\{{{FIELD}\}}")
REFERENCE = re.compile(rf"\$\{{(bundled:[\w-][\w.-]*|{FIELD})\}}")
NAME = re.compile(r"[^\s.\[\]{}$=:,'\"]+")  # of a field: what OmegaConf takes for a path is not one


def trust(packages: Iterable[str]) -> None:
    """Let the runs that are opened from now on, also by processes that this one starts, name code of these packages.

    Raises:
        UserError: one is not a package's name, or is one that holds no code of the user's own.
    """
    packages = list(packages)
    if not packages:
        return
    for package in packages:
        require_own_name(package, "--trust")
    os.environ[VARIABLE] = ",".join(dict.fromkeys([*_trusted(), *packages]))


def require_own_name(package: str, option: str) -> None:
    """Check that a name can be that of a package of the user's own.

    Args:
        option: what the message begins with.

    Raises:
        UserError: it is not a package's name, or that of a package that holds no code of the user's own.
    """
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", package):
        raise UserError(f"{option} {package}: expected the name of a Python package, as mypaper")
    if package.partition(".")[0] in NEVER_TRUSTED:
        raise UserError(f"{option} {package}: holds functions that run anything; trust a package of your own")


def trust_used(targets: Iterable[object]) -> None:
    """Trust from now on the packages of the user's own among those of the names that a training uses.

    Only a training whose config the user has written may call it: an opened run must not add trust.
    """
    packages = {target.partition(".")[0] for target in targets if isinstance(target, str)} - LIBRARIES
    own = [package for package in sorted(packages) if is_own_code(package) and not is_remembered(package)]
    if not own:
        return
    try:
        remember(own)
    except UserError as error:  # training goes on without it
        log.warning("%s", error)
    else:
        log.info("trusted from now on: %s; see attendgen trust", ", ".join(own))


def require_trusted(config: Any, source: object) -> None:
    """Check every name that a config would instantiate, and that none is computed.

    Args:
        config: plain data, with its references to other fields, or with their values.
        source: the file that it comes from.

    Raises:
        UserError: a name is not on the list and its package is not trusted, or a value is an expression.
    """
    for field, value in iterate_values(config, source):
        if isinstance(value, str) and "${" in REFERENCE.sub("", value):
            raise UserError(f"{source}: {field}={value}: a saved run may refer to its own fields only, as ${{seed}}")
        if field.rpartition(".")[2] == "_target_":
            require_trusted_name(value, field, source)


def require_trusted_name(target: Any, field: str, source: object) -> None:
    """Check a name that is to be instantiated.

    Raises:
        UserError: it is not on the list and its package is not trusted.
    """
    if is_trusted(target):
        return
    package = str(target).partition(".")[0]
    refused = f"{source}: {field}={target}: not one of the classes that a saved run may make"
    if package in LIBRARIES:
        raise UserError(f"{refused}; its place is a class in a package of your own")
    raise UserError(
        f"{refused}, so it could run any code; if you trust the package {package}, add --trust {package}, or "
        f"run attendgen trust {package} once"
    )


def is_trusted(target: Any) -> bool:
    """Return whether a saved run may instantiate this name."""
    if not isinstance(target, str):
        return False
    if target in NAMES or _is_of_trusted_package(target):
        return True
    module, _, name = target.rpartition(".")
    if module != "torch.optim" or not name.isidentifier() or name.startswith("_"):
        return False
    optimizers = importlib.import_module(module)
    found = getattr(optimizers, name, None)
    return isinstance(found, type) and issubclass(found, optimizers.Optimizer)


def _is_of_trusted_package(target: str) -> bool:
    """Return whether a name lies in a package that the user trusts, and what it names is defined in one, too.

    A package's modules hold what they import: `mypaper.torch.load` is not a part of mypaper.
    """
    if not _is_trusted_package(target):
        return False
    try:
        found = get_object(target)
    except Exception:  # Hydra says what is wrong with it when it is instantiated
        return True
    owner, name = getattr(found, "__module__", None), getattr(found, "__qualname__", None)
    return _is_trusted_package(f"{owner}") or f"{owner}.{name}" in NAMES


def _is_trusted_package(name: str) -> bool:
    """Return whether a module or what it holds lies in a package that the user trusts."""
    if f"{name}.".startswith(tuple(f"{package}." for package in _trusted())):
        return True
    package = name.partition(".")[0]
    return package not in LIBRARIES and is_remembered(package)


def _trusted() -> list[str]:
    """Return the packages that the user trusts by --trust or the environment variable."""
    names = [part.strip() for part in os.environ.get(VARIABLE, "").split(",")]
    return [name for name in names if name and name.partition(".")[0] not in NEVER_TRUSTED]


def iterate_values(
    node: Any, source: object, field: str = "", seen: set[int] | None = None
) -> Iterator[tuple[str, Any]]:
    """Yield every value of nested data with its dotted field; a `_target_` is one value, even if it is a mapping.

    Raises:
        UserError: the data is not made of dicts with plain names, lists, texts and numbers alone, each in one place.
    """
    seen = set() if seen is None else seen
    if field.rpartition(".")[2] == "_target_" or isinstance(node, str | int | float | None):
        yield field, node
        return
    if not isinstance(node, dict | list):
        raise UserError(f"{source}: {field}: {type(node).__name__}; expected fields, lists, texts and numbers")
    if id(node) in seen:  # a few of them can stand for more values than memory holds
        raise UserError(f"{source}: {field}: refers to another part of the file; write it out")
    seen.add(id(node))
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if not isinstance(key, int) and not (isinstance(key, str) and NAME.fullmatch(key)):
            raise UserError(f"{source}: {field}: field {key!r}: expected a name without dots, brackets or blanks")
        yield from iterate_values(value, source, f"{field}.{key}" if field else str(key), seen)
