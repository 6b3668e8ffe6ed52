"""How fast images become the features of a frozen encoder."""

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from attendgen.config.instantiate import instantiate
from attendgen.data.captions.encoding import GPU_BATCH_SIZE, encode_pixels, make_image_loader, prepare_encoder
from attendgen.data.captions.features import PixelData
from gpu_sections.families import compose_config
from gpu_sections.measure import time_calls
from gpu_sections.session import Row, Session

# at 288 pixels, as in flickr8k_soft; with random weights, which take as long as trained ones
ENCODERS = {
    "efficientnet_lite2": (),
    "timm": ("model/encoder=timm",),
    "resnet101": ("model/encoder=resnet101", "model.encoder.weights=null"),
}
PIXELS = (500, 375)  # of a photograph of Flickr
# encoder, processes that read, and times that each file is read
FROM_FILES = (
    ("efficientnet_lite2", "auto", 6),
    ("efficientnet_lite2", 4, 4),
    ("efficientnet_lite2", 0, 1),
    ("timm", "auto", 6),
)


def measure_features(session: Session) -> None:
    """Encode images that are in memory, and images that are read from files by several processes."""
    for name in list(ENCODERS)[: session.choose(None, 1)]:
        session.attempt(name, partial(time_encoder, session, name), source="memory", batch=choose_batch(session))
    with tempfile.TemporaryDirectory(prefix="attendgen-gpu-") as folder:
        images = paint_images(Path(folder), session.choose(512, 6))
        for name, workers, times in session.choose(FROM_FILES, (("efficientnet_lite2", 0, 1),)):
            measure = partial(time_files, session, name, images * times, workers)
            session.attempt(name, measure, least=8, source="files", batch=choose_batch(session), workers=workers)


def choose_batch(session: Session) -> int:
    """Return the number of images that are encoded at once."""
    return session.choose(GPU_BATCH_SIZE, 3)


def build_encoder(session: Session, name: str) -> Any:
    """Return an encoder, prepared for the device."""
    overrides = ["experiment=flickr8k_soft", *ENCODERS[name]]
    if "resnet101" not in name:
        overrides.append("model.encoder.pretrained=false")
    if session.quick:
        overrides.append("model.encoder.size=64")
    torch.manual_seed(0)
    return prepare_encoder(instantiate(compose_config(overrides).model.encoder, "model.encoder"), session.device)


@torch.inference_mode()
def time_encoder(session: Session, name: str) -> Row:
    """Return the images per second of an encoder whose images are in memory."""
    encoder = build_encoder(session, name)
    batch = choose_batch(session)
    pixels = torch.randint(0, 256, (batch, 3, encoder.size, encoder.size), dtype=torch.uint8)
    if session.device.type == "cuda":
        pixels = pixels.pin_memory()
    milliseconds = time_calls(
        lambda: encode_pixels(encoder, pixels, session.device), session.device, *session.choose((3, 10), (1, 2))
    )
    return {"ms": round(milliseconds, 3), "images_per_second": round(1e3 * batch / milliseconds, 1)}


@torch.inference_mode()
def time_files(session: Session, name: str, images: list[Path], workers: int | str) -> Row:
    """Return the images per second from files to features on the CPU, and those of reading alone."""
    encoder = build_encoder(session, name)
    pixels = PixelData(images, encoder.size)
    loader = make_image_loader(pixels, session.device, choose_batch(session), workers)
    started = time.perf_counter()
    for _ in loader:
        pass
    read = len(images) / (time.perf_counter() - started)
    started = time.perf_counter()
    for part in loader:
        encode_pixels(encoder, part, session.device)[0].cpu()
    encoded = len(images) / (time.perf_counter() - started)
    return {"images_per_second": round(encoded, 1), "read_per_second": round(read, 1)}


def paint_images(folder: Path, number: int) -> list[Path]:
    """Write photographs of smooth random colors; return their files."""
    generator = torch.Generator().manual_seed(0)
    paths = []
    for index in range(number):
        pixels = torch.randint(0, 256, (24, 32, 3), dtype=torch.uint8, generator=generator)
        paths.append(folder / f"{index:05}.jpg")
        Image.fromarray(pixels.numpy()).resize(PIXELS, Image.Resampling.BICUBIC).save(paths[-1], quality=90)
    return paths
