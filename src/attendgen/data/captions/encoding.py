"""Images through a frozen encoder, in batches: in half precision on a GPU, while other processes read the next ones."""

import copy
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval
from torch.utils.data import DataLoader, Dataset

from attendgen.data.workers import share_cores
from attendgen.layers.encoder import ImageEncoder, split_mask

BATCH_SIZE, GPU_BATCH_SIZE = 32, 256


def choose_device() -> torch.device:
    """Return where features are computed: a GPU if there is one, whatever trains the model."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def make_image_loader(
    images: Dataset[Tensor], device: torch.device, batch_size: int = 0, workers: int | str = "auto"
) -> DataLoader[Tensor]:
    """Return a loader of images in order.

    Args:
        device: of the encoder.
        batch_size: 0 is 256 for a GPU and 32 for a CPU.
        workers: processes that read images; "auto" is one per core, at most `MOST_WORKERS`, for a GPU, and none for
            a CPU, whose cores compute the features.
    """
    on_gpu = device.type == "cuda"
    size = batch_size or (GPU_BATCH_SIZE if on_gpu else BATCH_SIZE)
    number = (share_cores() if on_gpu else 0) if isinstance(workers, str) else workers
    return DataLoader(images, size, num_workers=number, pin_memory=on_gpu)


def prepare_encoder(encoder: ImageEncoder, device: torch.device) -> ImageEncoder:
    """Return a copy of an encoder that computes its features faster, on a device."""
    prepared: Any = fold_batch_norms(encoder)
    return prepared.to(device, memory_format=torch.channels_last)


def encode_pixels(
    encoder: ImageEncoder, pixels: UInt8[Tensor, "batch 3 size size"], device: torch.device
) -> tuple[Float[Tensor, "batch regions dim"], Bool[Tensor, "batch regions"] | None]:
    """Return the features of images and their mask, computed in half precision on a GPU: as they are stored.

    Args:
        encoder: of `prepare_encoder`.
        pixels: on the CPU, for a GPU in pinned memory.
    """
    moved = pixels.to(device, memory_format=torch.channels_last, non_blocking=True)
    with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
        return split_mask(encoder(moved))


def fold_batch_norms(encoder: ImageEncoder) -> ImageEncoder:
    """Return a copy of an encoder in evaluation mode, its batch norms folded into the convolutions before them.

    Its features are the same up to rounding. Only layers that follow each other in an `nn.Sequential` are folded.
    """
    copied = copy.deepcopy(encoder).eval()
    for layers in copied.modules():
        if not isinstance(layers, nn.Sequential):
            continue
        for index, (first, second) in enumerate(pairwise(layers)):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                layers[index] = fuse_conv_bn_eval(first, second)
                layers[index + 1] = nn.Identity()
    return copied
