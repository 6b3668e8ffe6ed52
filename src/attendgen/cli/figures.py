"""Figures of attention that commands save."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from attendgen.text.spelling import find_phrase, lay_out
from attendgen.utils.errors import UserError
from attendgen.utils.special_tokens import SPECIALS

if TYPE_CHECKING:
    from PIL import Image

    from attendgen.inference.result import Result

MAX_ROWS = 160  # of a heat map: more cannot be read


def save_alignment(result: "Result", path: Path, run: str, words: str | None = None) -> None:
    """Save the heat map of an output's attention.

    Args:
        words: those of the output that are drawn, with commas between; all unless given.

    Raises:
        UserError: the model has none, or a word is not in the output.
    """
    from attendgen.visualization import plotting

    require_weights(result, run)
    chosen = choose_words(result, words)
    tokens, weights = chosen.tokens[:MAX_ROWS], chosen.attention[:MAX_ROWS]
    plotting.save(plotting.plot_alignment(chosen.source, tokens, weights, groups=chosen.rows), path)
    print(f"attention: {path}", file=sys.stderr)


def require_weights(result: "Result", run: str) -> None:
    """Check that an output has attention weights.

    Raises:
        UserError: it has none.
    """
    if not result.attention.size:
        raise UserError(f"--attention: {run} does not attend to anything; leave it out")


def save_panels(result: "Result", image: "Image.Image", path: Path, words: str | None = None) -> None:
    """Save an image, and once per word lit by the word's attention.

    Args:
        words: see `save_alignment`.

    Raises:
        UserError: a word is not in the caption.
    """
    from attendgen.visualization import plotting

    chosen = choose_words(result, words)
    plotting.save(plotting.plot_caption(image, chosen.tokens, chosen.attention, chosen.regions), path)
    print(f"attention: {path}", file=sys.stderr)


def choose_words(result: "Result", words: str | None) -> "Result":
    """Return an output with only some of its words, in the order of the output.

    Args:
        words: with commas between; capitals do not matter.

    Raises:
        UserError: one is not in the output.
    """
    if words is None:
        return result
    rows: set[int] = set()
    for word in words.split(","):
        found = find_phrase(result.tokens, word, result.text)
        if not found:
            text = "".join(gap + piece for gap, piece in lay_out(result.tokens, result.text) if piece not in SPECIALS)
            raise UserError(f"--words: no word {word.strip()!r} in the output {text!r}; give words of the output")
        rows.update(row for run in found for row in run)
    order = sorted(rows)
    return replace(
        result,
        tokens=[result.tokens[row] for row in order],
        log_probs=result.log_probs[order],
        attention=result.attention[order],
        alternatives=[result.alternatives[row] for row in order] if result.alternatives else [],
    )
