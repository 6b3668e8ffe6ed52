"""The attention page of results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from attendgen.data.captions.images import open_image, to_rgb
from attendgen.inference.result import Result
from attendgen.text.spelling import lay_out, spell_token
from attendgen.utils.errors import UserError
from attendgen.utils.files import replacing
from attendgen.visualization.attention_page import render_page
from attendgen.visualization.packing import pack_picture, pack_regions, pack_weights, round_number, to_probability

CONTEXT, LONGEST = 1000, 2000  # tokens of a context and of an output that the page shows, at most
NAMED = 80  # characters of an input in its heading

Outputs = Result | Sequence[Result] | Sequence[Sequence[Result]]  # one, the n best of an input, those of several inputs
Picture = str | Path | Image.Image


def report(
    results: Outputs | Mapping[str, Outputs],
    path: str | Path,
    *,
    images: Sequence[Picture] = (),
    title: str = "Attention",
) -> None:
    """Write the attention page of results: one HTML file, to be explored in a browser without a network.

    Args:
        results: outputs as `generate` or `caption` returns them, those of several inputs, or a mapping of models' names
            to either, which are shown side by side. The page shows the `alternatives` of results that have some.
        images: the images that were captioned: one per input.
        title: of the page.

    Raises:
        UserError: the numbers of inputs or images differ, an image cannot be read, or the file cannot be written.
    """
    models = results if isinstance(results, Mapping) else {"": results}
    page = render_page(title, make_data({name: list_inputs(found) for name, found in models.items()}, images))
    with replacing(path) as temporary:
        temporary.write_bytes(page.encode("utf-8", "replace"))


def list_inputs(results: Outputs) -> list[list[Result]]:
    """Return the outputs of each input."""
    if isinstance(results, Result):
        return [[results]]
    found: Any = list(results)
    return [found] if all(isinstance(result, Result) for result in found) else [list(outputs) for outputs in found]


def make_data(models: Mapping[str, Sequence[Sequence[Result]]], images: Sequence[Picture] = ()) -> dict[str, Any]:
    """Return what the page shows, as plain data.

    Args:
        models: the outputs of each input, by the model's name.

    Raises:
        UserError: the numbers of inputs or images differ, or an image cannot be read.
    """
    counts = {name: len(inputs) for name, inputs in models.items()}
    if len(set(counts.values())) != 1:
        found = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise UserError(f"report: results: the models have different numbers of inputs ({found or 'no model'})")
    (count,) = set(counts.values())
    if images and len(images) != count:
        raise UserError(f"report: images: {len(images)} images, but results of {count} inputs; give one per input")
    pictures: list[Picture | None] = list(images) or [None] * count
    return {
        "items": [
            make_item({name: inputs[number] for name, inputs in models.items()}, picture, number)
            for number, picture in enumerate(pictures)
        ]
    }


def make_item(models: Mapping[str, Sequence[Result]], picture: Picture | None, number: int) -> dict[str, Any]:
    """Return one input with the outputs of each model."""
    first = next((result for outputs in models.values() for result in outputs), None)
    kind = "image" if picture is not None or (first and first.regions) else find_kind(first)
    item: dict[str, Any] = {"kind": kind, "name": name_input(first, picture, number)}
    if picture is not None:
        image = to_rgb(picture) if isinstance(picture, Image.Image) else open_image(picture)
        item["picture"] = pack_picture(image)
    item["models"] = [make_model(name, outputs) for name, outputs in models.items()]
    return item


def find_kind(result: Result | None) -> str:
    """Return how an output is shown: as a continuation, below the cells of a table, or below its source."""
    if result is not None and result.rows:
        return "table"
    is_continuation = result is not None and (result.context or result.source in ([], result.tokens))
    return "text" if is_continuation else "pair"


def name_input(result: Result | None, picture: Picture | None, number: int) -> str:
    """Return the heading of an input: the file name of an image, or the beginning of a text."""
    if isinstance(picture, str | Path):
        return Path(picture).name
    if result is None or picture is not None or result.regions is not None:
        return f"Input {number + 1}"
    tokens = result.context or result.source
    text = "".join(gap + piece for gap, piece in lay_out(tokens[: 4 * NAMED])).strip()
    return text if len(text) <= NAMED else f"{text[: NAMED - 1]}…"


def make_model(name: str, outputs: Sequence[Result]) -> dict[str, Any]:
    """Return one model's outputs of an input."""
    first = outputs[0] if outputs else None
    source = (first.context or first.source) if first else []
    dropped = max(len(source) - CONTEXT, 0) if first and first.context else 0
    if first and not source and first.regions is None:  # regions that have no place in the image
        source = [str(region + 1) for region in range(first.attention.shape[1])]
    longest = max((len(result.tokens) for result in outputs), default=0)
    notes = [f"The first {LONGEST} of {longest} tokens are shown."] if longest > LONGEST else []
    notes += [f"The last {CONTEXT} of {len(source)} tokens of the context are shown."] if dropped else []
    return {
        "name": name,
        "source": [("", label) for label in source] if first and first.rows else lay_out(source[dropped:]),
        "rows": first.rows if first else [],
        "outputs": [make_output(result, dropped) for result in outputs],
        "note": " ".join(notes),
    }


def make_output(result: Result, dropped: int = 0) -> dict[str, Any]:
    """Return an output as plain data.

    Args:
        dropped: tokens at the beginning of the source that are not shown.
    """
    weights = result.attention[:LONGEST, dropped:]
    return {
        "text": result.text,
        "score": round_number(result.score),
        "pieces": lay_out(result.tokens, result.text)[:LONGEST],
        "probabilities": [to_probability(float(value)) for value in result.log_probs[:LONGEST]],
        "alternatives": [
            [(spell_token(token), to_probability(value)) for token, value in step.items()]
            for step in result.alternatives[:LONGEST]
        ],
        "width": weights.shape[1],
        "weights": pack_weights(weights) if weights.size else [],
        "regions": pack_regions(result.regions),
    }
