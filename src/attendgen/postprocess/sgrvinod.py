"""Checkpoints of sgrvinod's captioning tutorial (github.com/sgrvinod/a-PyTorch-Tutorial-to-Image-Captioning).

They pickle whole modules of a module named `models`; these are read as records, so that no code of the file runs.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attendgen.postprocess.pickle_records import BrokenPickleError, Name, Record
from attendgen.postprocess.torch_files import (
    TorchFile,
    build_tensor,
    get_items,
    is_part_of_torch,
    is_tensor,
    read_torch_file,
)
from attendgen.text.vocabulary import Vocabulary
from attendgen.utils.errors import UserError
from attendgen.utils.files import read_json

MODULES = re.compile(r"(torch\.nn\.(modules|parameter)(\.\w+)*|torchvision\.models\.resnet|torch\.optim(\.\w+)?)")
SCALARS = ("numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "_codecs.encode")
NETWORKS = ("Encoder", "DecoderWithAttention", "Attention")  # of the module `models`
DEEPEST = 20  # modules within modules
# blocks of each stage, and whether a block has three convolutions
RESNETS: dict[tuple[tuple[int, ...], bool], str] = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}
# what the special words are called, ours first
SPECIAL_WORDS = {
    "<pad>": ("<pad>", "<PAD>", "[PAD]", "<blank>"),
    "<sos>": ("<start>", "<sos>", "<s>", "<bos>", "<START>", "<SOS>", "<S>", "[CLS]"),
    "<eos>": ("<end>", "<eos>", "</s>", "<END>", "<EOS>", "</S>", "[SEP]"),
    "<unk>": ("<unk>", "<UNK>", "[UNK]", "<oov>"),
}


class TutorialCaptioner(NamedTuple):
    """What a checkpoint and its word map describe: settings, vocabulary, and the weights of a `Captioner`."""

    settings: list[str]
    vocabulary: Vocabulary
    weights: dict[str, Tensor]


def read_tutorial(checkpoint: Path, word_map: Path) -> TutorialCaptioner:
    """Read a checkpoint and its word map.

    Raises:
        UserError: a file is missing, broken, or of another model.
    """
    order, vocabulary = read_word_map(word_map)
    file = read_torch_file(checkpoint, is_known)
    try:
        weights = dict(find_weights(file))
    except BrokenPickleError as error:
        raise UserError(f"{checkpoint}: holds {error}; expected a checkpoint of the tutorial") from error
    require_weights(checkpoint, weights, len(order))
    hidden, embedding = weights["decoder.init_h.weight"].size(0), weights["decoder.embedding.weight"].size(1)
    settings = [
        f"model.encoder.name={find_resnet(checkpoint, weights)}",
        f"model.hidden={hidden}",
        f"model.embedding_dim={embedding}",
        f"model.attention.dim={weights['decoder.attention.full_att.weight'].size(1)}",
    ]
    try:
        return TutorialCaptioner(settings, vocabulary, convert(weights, order, embedding))
    except KeyError as error:
        raise UserError(
            f"{checkpoint}: no weights of decoder.{error.args[0]}; expected a checkpoint of the tutorial"
        ) from error
    except RuntimeError as error:
        raise UserError(
            f"{checkpoint}: weights of sizes that do not fit each other: {error}; expected a checkpoint of the tutorial"
        ) from error


def is_known(name: Name) -> bool:
    """Return whether a checkpoint of the tutorial may hold a name."""
    if is_part_of_torch(name) or str(name) in SCALARS:
        return True
    if name.name in NETWORKS:
        return re.fullmatch(r"\w+", name.module) is not None
    return MODULES.fullmatch(name.module) is not None and re.fullmatch(r"[A-Z]\w*", name.name) is not None


def read_word_map(path: Path) -> tuple[list[int], Vocabulary]:
    """Return the place of each token of the vocabulary in the word map, and the vocabulary.

    Raises:
        UserError: the file is missing, broken, or not a word map with the special words.
    """
    words = read_json(path)
    if not isinstance(words, dict) or sorted(words.values(), key=str) != sorted(range(len(words)), key=str):
        raise UserError(f"{path}: not a word map: expected an object of words and their ids from 0")
    special = {}
    for ours, names in SPECIAL_WORDS.items():
        found = next((name for name in names if name in words), None)
        if found is None:
            raise UserError(f"{path}: no word for {ours}; expected one of {', '.join(names)}")
        special[found] = words[found]
    rest = sorted((index, word) for word, index in words.items() if word not in special)
    vocabulary = Vocabulary([word for _, word in rest], "caption", "lower")
    return [*special.values(), *(index for index, _ in rest)], vocabulary


def find_weights(file: TorchFile) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights of encoder and decoder by name: of whole modules, or of state dicts.

    Raises:
        BrokenPickleError: there is neither.
    """
    top = get_items(file.value)
    parts = {name.removesuffix("_state_dict"): value for name, value in top.items() if isinstance(name, str)}
    if "encoder" not in parts and "decoder" not in parts:
        yield from ((name, build_tensor(value, file.storages)) for name, value in parts.items() if is_tensor(value))
        return
    for part in ("encoder", "decoder"):
        for name, value in _walk(parts.get(part), 0):
            yield f"{part}.{name}", build_tensor(value, file.storages)


def _walk(value: object, depth: int) -> Iterator[tuple[str, Any]]:
    """Yield the tensors of a module's record or of a state dict."""
    if depth > DEEPEST:
        raise BrokenPickleError("modules within modules without end")
    if not isinstance(value, Record) or str(value.name) == "collections.OrderedDict":
        yield from ((str(name), item) for name, item in get_items(value).items() if is_tensor(item))
        return
    state = get_items(value.state)
    for kind in ("_parameters", "_buffers"):
        yield from ((str(name), item) for name, item in get_items(state.get(kind, {})).items() if item is not None)
    for name, module in get_items(state.get("_modules", {})).items():
        if module is not None:
            yield from ((f"{name}.{inner}", item) for inner, item in _walk(module, depth + 1))


def require_weights(path: Path, weights: Mapping[str, Tensor], words: int) -> None:
    """Check that the weights that all sizes are read from are there, and fit the word map.

    Raises:
        UserError: one is missing, or the word map has another number of words.
    """
    shapes = {
        "decoder.embedding.weight": 2,
        "decoder.init_h.weight": 2,
        "decoder.attention.full_att.weight": 2,
        "decoder.decode_step.weight_ih": 2,
        "decoder.fc.weight": 2,
        "encoder.resnet.0.weight": 4,
    }
    for name, dimensions in shapes.items():
        if name not in weights or weights[name].ndim != dimensions:
            raise UserError(f"{path}: no weights of {name}; expected a checkpoint of the tutorial")
    for name in ("decoder.embedding.weight", "decoder.fc.weight"):
        if len(weights[name]) != words:
            raise UserError(
                f"{path}: {name} has {len(weights[name])} rows, but the word map has {words} words; "
                "give the word map of its training"
            )


def find_resnet(path: Path, weights: Mapping[str, Tensor]) -> str:
    """Return the name of the encoder's network, by its blocks.

    Raises:
        UserError: it is not a ResNet that is known.
    """
    names = [name.removeprefix("encoder.resnet.") for name in weights if name.startswith("encoder.resnet.")]
    blocks = tuple(len({name.split(".")[1] for name in names if name.startswith(f"{stage}.")}) for stage in range(4, 8))
    found = RESNETS.get((blocks, "4.0.conv3.weight" in names))
    if found is None:
        raise UserError(f"{path}: encoder.resnet: blocks {blocks}: not one of {', '.join(RESNETS.values())}")
    return found


def convert(weights: Mapping[str, Tensor], order: list[int], embedding: int) -> dict[str, Tensor]:
    """Return the weights under the names of `Captioner`, with the rows of words in the order of the vocabulary.

    Two biases that are added to the same sum become one; the bias of the attention's last layer cancels in the softmax.
    """
    decoder = {
        name.removeprefix("decoder."): value.float() for name, value in weights.items() if name.startswith("decoder.")
    }
    w_ih = decoder["decode_step.weight_ih"]
    converted = {
        "embedding.weight": decoder["embedding.weight"][order],
        "first_hidden.weight": decoder["init_h.weight"],
        "first_hidden.bias": decoder["init_h.bias"],
        "first_cell.weight": decoder["init_c.weight"],
        "first_cell.bias": decoder["init_c.bias"],
        "decoder.attention.key_proj.weight": decoder["attention.encoder_att.weight"],
        "decoder.attention.key_proj.bias": decoder["attention.encoder_att.bias"]
        + decoder["attention.decoder_att.bias"],
        "decoder.attention.query_proj.weight": decoder["attention.decoder_att.weight"],
        "decoder.attention.score.weight": decoder["attention.full_att.weight"],
        "decoder.input_gates.weight": w_ih[:, :embedding],
        "decoder.input_gates.bias": decoder["decode_step.bias_ih"] + decoder["decode_step.bias_hh"],
        "decoder.recurrent_gates.weight": torch.cat([w_ih[:, embedding:], decoder["decode_step.weight_hh"]], dim=1),
        "decoder.context_gate.weight": decoder["f_beta.weight"],
        "decoder.context_gate.bias": decoder["f_beta.bias"],
        "output.weight": decoder["fc.weight"][order],
        "output.bias": decoder["fc.bias"][order],
    }
    for name, value in weights.items():
        if name.startswith("encoder.resnet."):
            converted[name.replace("encoder.resnet.", "encoder.backbone.", 1)] = value
    for name in list(converted):
        if name.endswith(".running_mean"):  # older versions of torch count no batches
            converted.setdefault(name.replace(".running_mean", ".num_batches_tracked"), torch.tensor(0))
    return converted
