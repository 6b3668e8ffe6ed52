"""Figures of attention: alignments between texts, and images lit by the attention of each word of a caption.

Figures are made without pyplot: nothing is global, and no display is needed. Layouts are computed in inches.
"""

import functools
import math
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib import font_manager, rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from attendgen.utils.errors import UserError, describe_refusal
from attendgen.utils.files import replacing
from attendgen.visualization.glyphs import collect_missing_glyphs
from attendgen.visualization.regions import Boxes, Grid, Regions, spread_weights

SUFFIXES = (".png", ".pdf", ".svg")
DPI = 100
SAVED_DPI = 200
FONT, MONOSPACED = "DejaVu Sans", "DejaVu Sans Mono"  # both come with matplotlib
# fonts of scripts that these lack; those that are installed are used
FALLBACKS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Micro Hei", "Droid Sans Fallback"),
    *("PingFang SC", "Hiragino Sans", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Arial Unicode MS"),
    *("Noto Sans Devanagari", "Noto Sans Bengali", "Noto Sans Tamil", "Noto Sans Thai", "Nirmala UI", "Leelawadee UI"),
    *("Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Ethiopic", "Noto Sans", "Segoe UI", "Noto Emoji"),
)
ADVANCE = 0.602  # a monospaced character's width in ems
TITLE = 11.0  # points
MARGIN = 0.12
ALIGNMENT = 5.0  # intended length of the longer side of a heat map,
CELL = (0.13, 0.36)  # smallest and largest cell; the smallest is a line of the smallest ticks
LABELED = 200  # longest axis with a tick per position
GUIDED = 30  # longest axis without guide lines
LABEL = 24  # most characters of a tick or a panel's word
BLANKS = ("␣", "⏎")
PANEL = 2.0  # side of a square image; other images have the same area
PAGE = 13.0
COLUMNS = 5
DARK, LIFT = 0.3, 0.25  # brightness without attention; white added at full attention


def plot_alignment(
    source: Sequence[str],
    target: Sequence[str],
    alpha: Float[np.ndarray, "target source"],
    title: str = "",
    groups: Sequence[int] = (),
) -> Figure:
    """Draw a heat map of the attention weights of each target token (row) over the source tokens (column).

    An axis of more than `LABELED` tokens shows positions instead.

    Args:
        groups: the number of each source token's group, as the row of a table; lines separate them.

    Raises:
        ValueError: `alpha` does not have the shape of the tokens.
    """
    if alpha.shape != (len(target), len(source)):
        raise ValueError(f"alpha is {alpha.shape}, but there are {len(target)} target and {len(source)} source tokens")
    longest = max(len(target), len(source), 1)
    cell = round(min(max(ALIGNMENT / longest, CELL[0]), CELL[1]) * DPI) / DPI  # whole pixels: equal cells
    size = min(9.0, 0.76 * cell * 72)
    line, advance = size / 72, ADVANCE * size / 72
    columns, rows = _make_labels(source), _make_labels(target)
    angles = _angles(columns, cell)
    turned = [(len(label) * advance, math.radians(angle)) for label, angle in zip(columns, angles, strict=True)]

    # an axis of positions has a limit; an empty one (an output may be empty) is still drawn
    width, height = (min(max(n, 1), LABELED) * cell for n in (len(source), len(target)))
    bar = min(max(height, 0.9), 3.0)
    left = MARGIN + 0.05 + max((len(label) * advance for label in rows), default=4 * advance)  # or numbers
    overhang = max((i + 0.5) * cell + long * math.cos(angle) for i, (long, angle) in enumerate(turned)) if turned else 0
    full_width = max(left + max(width + 0.8, overhang) + MARGIN, 2.6)
    lines = textwrap.wrap(title, int((full_width - 2 * MARGIN) * 72 / (0.58 * TITLE)))
    head = MARGIN + len(lines) * 1.3 * TITLE / 72
    top = head + 0.06 + max((long * math.sin(a) + 1.2 * line * math.cos(a) for long, a in turned), default=line)
    figure = _figure(full_width, top + max(height, bar) + MARGIN, lines)

    axes = _axes(figure, left, top, width, height)
    peak = np.max(alpha, initial=0.0, where=np.isfinite(alpha))
    extent = (-0.5, max(len(source), 1) - 0.5, max(len(target), 1) - 0.5, -0.5)
    shown = alpha if alpha.size else np.zeros((1, 1))
    heat = axes.imshow(shown, cmap="Blues", vmin=0.0, vmax=peak or 1.0, aspect="auto", extent=extent)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, pad=2, labelsize=size)
    if 45 in angles:
        axes.tick_params(axis="x", pad=5)
    _label(axes.xaxis, columns, len(source))
    _label(axes.yaxis, rows, len(target))
    for tick, angle in zip(axes.get_xticklabels(), angles, strict=False):
        if angle:
            tick.set(rotation=angle, rotation_mode="anchor", ha="left", va="center")
    if longest > GUIDED:  # guide lines between words
        axes.vlines([i for i, label in enumerate(columns) if label in BLANKS], *extent[2:], colors="0.8", linewidth=0.4)
        axes.hlines([i for i, label in enumerate(rows) if label in BLANKS], *extent[:2], colors="0.8", linewidth=0.4)

    borders = [i - 0.5 for i, (before, group) in enumerate(pairwise(groups), 1) if before != group]
    axes.vlines(borders, *extent[2:], colors="0.5", linewidth=0.5)

    scale = figure.colorbar(heat, cax=_axes(figure, left + width + 0.15, top, 0.12, bar), ticks=MaxNLocator(4))
    scale.set_label("attention", size=7, family=list_fonts())
    scale.ax.tick_params(length=2, width=0.5, color="0.5", labelsize=7)
    for spine in (*axes.spines.values(), scale.outline):
        spine.set(color="0.5", linewidth=0.5)
    return figure


def plot_caption(
    image: Image.Image,
    words: Sequence[str],
    alpha: Float[np.ndarray, "words regions"],
    regions: Regions,
    caption: str = "",
) -> Figure:
    """Draw an image, and once per word lit by the word's attention weights (Xu et al. 2015, figure 3).

    The brightness of each panel is relative to its greatest weight, so that weak attention is visible.

    Args:
        regions: where they lie in the image. If they have no place there, the weights are drawn as a heat map of words
            over regions.

    Raises:
        ValueError: there is not one row per word.
        UserError: there are fewer weights than regions.
    """
    if len(alpha) != len(words):
        raise ValueError(f"alpha has {len(alpha)} rows, but there are {len(words)} words")
    if regions is None:
        return plot_alignment([str(number) for number in range(1, alpha.shape[1] + 1)], words, alpha, caption)
    stretch = math.sqrt(image.width / image.height)
    # an image beyond 40 to 1 is distorted to stay visible
    width, height = min(max(PANEL * stretch, 0.32), PAGE), min(max(PANEL / stretch, 0.32), PAGE)
    slot = max(width, 1.2)  # room for the word above a narrow image
    gap, head = 0.1, 0.27
    columns = min(max(int((PAGE + gap) / (slot + gap)), 1), COLUMNS, len(words) + 1)
    count = math.ceil((len(words) + 1) / columns)

    full_width = max(2 * MARGIN + columns * (slot + gap) - gap, 2.6)
    lines = textwrap.wrap(caption, int((full_width - 2 * MARGIN) * 72 / (0.58 * TITLE)))
    top = MARGIN + len(lines) * 1.3 * TITLE / 72
    figure = _figure(full_width, top + count * (head + height) + MARGIN, lines)
    resized = image.convert("RGB").resize(
        (round(width * SAVED_DPI), round(height * SAVED_DPI)), Image.Resampling.BICUBIC
    )
    lit = [np.asarray(resized), *(highlight(resized, weights, regions) for weights in alpha)]
    for index, (word, pixels) in enumerate(zip(("", *words), lit, strict=True)):
        row, column = divmod(index, columns)
        left = MARGIN + column * (slot + gap) + (slot - width) / 2
        axes = _axes(figure, left, top + row * (head + height) + head, width, height)
        axes.imshow(pixels, aspect="auto")
        axes.set_axis_off()
        label = _make_visible(word)
        size = min(11.0, slot * 72 / (0.62 * max(len(label), 1)))  # a long word is drawn smaller
        axes.set_title(label, size=size, family=list_fonts(), pad=3, parse_math=False)
    return figure


def highlight(
    image: Image.Image, weights: Float[np.ndarray, "regions"], regions: Grid | Boxes
) -> UInt8[np.ndarray, "height width 3"]:
    """Return an image in color where its regions are attended to, dark and gray elsewhere.

    Raises:
        UserError: there are fewer weights than regions.
    """
    light = spread_weights(weights, regions, image.height, image.width)[..., None].astype(np.float32)
    light /= light.max() or 1
    color = np.asarray(image.convert("RGB"), dtype=np.float32)
    gray = np.asarray(image.convert("L"), dtype=np.float32)[..., None]
    bright = (1 - LIFT) * color + LIFT * 255
    return (light * bright + (1 - light) * DARK * gray).round().astype(np.uint8)


def to_array(figure: Figure) -> UInt8[np.ndarray, "height width 3"]:
    """Return the figure's pixels, as TensorBoard's `add_image(..., dataformats="HWC")` takes them."""
    canvas = FigureCanvasAgg(figure)
    with collect_missing_glyphs():
        canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3].copy()


def check_suffix(path: str | Path) -> str:
    """Return the suffix of an image's file name in lower case.

    Raises:
        UserError: it is unknown.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{path}: unknown image format {suffix or '(no suffix)'}; use {', '.join(SUFFIXES)}")
    return suffix


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure, whole or not at all, in the format that its suffix names.

    Raises:
        UserError: the suffix is unknown or the file cannot be written.
    """
    path = Path(path)
    suffix = check_suffix(path)
    try:
        # journals refuse the Type 3 fonts that are the default of PDF; text in SVG stays text, which what shows it sets
        # by the rules of any script
        settings = rc_context({"pdf.fonttype": 42, "svg.fonttype": "none"})
        with replacing(path) as temporary, settings, collect_missing_glyphs():
            figure.savefig(temporary, format=suffix[1:], dpi=SAVED_DPI)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {describe_refusal(error)}") from error


@functools.cache
def list_fonts(first: str = FONT) -> list[str]:
    """Return fonts of which the first that has a character is used for it."""
    installed = set(font_manager.get_font_names())
    return [*dict.fromkeys([first, FONT]), *(name for name in FALLBACKS if name in installed)]


def _figure(width: float, height: float, lines: Sequence[str]) -> Figure:
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    if lines:
        corner = (MARGIN / width, 1 - MARGIN / height)
        figure.text(
            *corner, "\n".join(lines), size=TITLE, family=list_fonts(), va="top", linespacing=1.2, parse_math=False
        )
    return figure


def _axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    full_width, full_height = figure.get_size_inches()
    bottom = full_height - top - height
    return figure.add_axes((left / full_width, bottom / full_height, width / full_width, height / full_height))


def _make_labels(tokens: Sequence[str]) -> list[str]:
    """Return the tokens as ticks, or nothing if there are too many."""
    return [_make_visible(token) for token in tokens] if len(tokens) <= LABELED else []


def _make_visible(token: str) -> str:
    bare = token.replace("￭", "") or token  # the tokenizer's mark of touching words is not in the fonts
    last = len(bare) - 1  # a blank inside stands between the words of a cell of a table
    shown = "".join(
        c if c == " " and 0 < i < last else BLANKS[1] if c == "\n" else BLANKS[0] if c.isspace() else _replace(c)
        for i, c in enumerate(bare)
    )
    return shown if len(shown) <= LABEL else shown[: LABEL - 1] + "…"


def _replace(character: str) -> str:
    return character if character.isprintable() else "�"


def _angles(labels: Sequence[str], cell: float) -> list[int]:
    """Return the angles of ticks: words are slanted or upright, characters are not turned."""
    if sum(len(label) > 1 for label in labels) * 2 > len(labels):
        return [45 if cell >= 0.24 else 90] * len(labels)
    return [90 if len(label) > 1 else 0 for label in labels]


def _label(axis: Axis, labels: Sequence[str], count: int) -> None:
    if len(labels) < count:
        axis.set_major_locator(MaxNLocator(integer=True))
        return
    axis.set_ticks(range(count), labels, family=list_fonts(MONOSPACED), parse_math=False)
    for tick in axis.get_ticklabels():
        if tick.get_text() in BLANKS:
            tick.set_color("0.45")
