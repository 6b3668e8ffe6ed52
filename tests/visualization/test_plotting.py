"""Figures are checked by what they draw: ticks, boxes and pixels."""

import itertools
import os
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from attendgen.utils.errors import UserError
from attendgen.visualization import plotting
from attendgen.visualization.regions import Grid, spread_weights

FRENCH = "Où étais-tu cet été, Noël ? À l'île de Ré, près du château où l'œuvre naît là-bas…"[:80]
WORDS = ["L￭", "￭'￭", "homme", "élégant", "traverse", "la", "forêt", "près", "de", "l￭", "￭'￭", "église", "￭."]


def draw_weights(*shape):
    return np.random.default_rng(0).dirichlet(np.ones(shape[-1]), shape[0])


def get_labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def get_boxes(figure, artists):
    renderer = figure.canvas.get_renderer()
    return [artist.get_window_extent(renderer) for artist in artists]


def is_whole(figure):
    """Return whether all that the figure draws is within its edges."""
    box = figure.get_tightbbox(figure.canvas.get_renderer())
    width, height = figure.get_size_inches()
    return box.x0 > 0 and box.y0 > 0 and box.x1 < width and box.y1 < height


def test_alignment_names_rows_and_columns_in_order():
    alpha = np.zeros((3, 6))
    alpha[2, 3] = 0.7
    figure = plotting.plot_alignment(list("é $a$\n")[:6], ["Où", "vas\u202ftu", "<eos>"], alpha, "Ça va ?")
    heat, scale = figure.axes
    assert get_labels(heat.xaxis) == ["é", "␣", "$", "a", "$", "⏎"]
    assert get_labels(heat.yaxis) == ["Où", "vas␣tu", "<eos>"]
    assert [text.get_text() for text in figure.texts] == ["Ça va ?"]
    assert scale.get_ylim() == (0.0, 0.7)

    # the darkest cell of the image is where row 2 and column 3 meet, and x is on top
    pixels = plotting.to_array(figure).astype(int)
    x, y = heat.transData.transform((3, 2))
    assert tuple(pixels[pixels.shape[0] - int(y), int(x)]) == (8, 48, 107)
    assert heat.xaxis.get_ticks_position() == "top"
    assert heat.get_xlim() == (-0.5, 5.5)
    assert heat.get_ylim() == (2.5, -0.5)


def test_lines_separate_the_rows_of_a_table():
    cells = ["name The", "name Eagle", " ", "food French"]
    figure = plotting.plot_alignment(cells, ["a", "b"], np.ones((2, 4)), groups=[1, 1, 2, 4])
    (lines,) = figure.axes[0].collections
    assert [line.vertices[:, 0].tolist() for line in lines.get_paths()] == [[1.5, 1.5], [2.5, 2.5]]
    assert get_labels(figure.axes[0].xaxis) == ["name The", "name Eagle", "␣", "food French"]


def test_every_cell_has_its_weight():
    alpha = draw_weights(7, 5)
    figure = plotting.plot_alignment(list("abcde"), list("fghijkl"), alpha)
    pixels = plotting.to_array(figure).astype(int)
    heat = figure.axes[0]
    blueness = np.empty_like(alpha)
    for row, column in itertools.product(range(7), range(5)):
        x, y = heat.transData.transform((column, row))
        blueness[row, column] = -pixels[pixels.shape[0] - 1 - int(y), int(x)].sum()
    order = np.argsort(alpha, axis=None)
    assert (np.diff(blueness.ravel()[order]) >= 0).all()


@pytest.mark.parametrize("turned", [False, True])
def test_80_by_80_ticks_do_not_overlap(turned):
    source = list(FRENCH) if not turned else (WORDS * 8)[:80]
    figure = plotting.plot_alignment(source, list("ÉÀg|jÇ␣y" * 10), draw_weights(80, 80), FRENCH)
    assert is_whole(figure)
    heat = figure.axes[0]
    for axis in (heat.xaxis, heat.yaxis):
        labels = get_boxes(figure, axis.get_ticklabels())
        assert len(labels) == 80
        assert not any(a.overlaps(b) for a, b in itertools.combinations(labels, 2))
    assert {label.get_rotation() for label in heat.get_xticklabels()} == {90.0 if turned else 0.0}


def test_labels_of_words_are_slanted_without_the_joiner():
    figure = plotting.plot_alignment(WORDS, WORDS[:3], draw_weights(3, len(WORDS)))
    labels = figure.axes[0].get_xticklabels()
    assert [label.get_text() for label in labels][:4] == ["L", "'", "homme", "élégant"]
    assert {label.get_rotation() for label in labels} == {45.0}


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (["a"], ["b"]),
        (["anticonstitutionnellement" * 2], ["b"]),
        (list("bonjour"), []),
        ([], []),
        ([*"bonjour", "<eos>"], list("oui")),
        (list("n" * 170), list("oui")),
        (list("n" * 2000), list("o" * 900)),
    ],
)
def test_any_length_fits_its_figure(source, target):
    figure = plotting.plot_alignment(source, target, np.ones((len(target), len(source))), "Une légende longue " * 4)
    assert is_whole(figure)
    assert max(figure.get_size_inches()) < 30
    if 0 < len(source) <= plotting.LABELED:
        assert len(figure.axes[0].get_xticklabels()) == len(source)


def test_fonts_have_every_glyph(recwarn):
    plotting.to_array(
        plotting.plot_alignment(list("éÀœŒçÿ\t\n \u00a0\x07«»’–"), WORDS, draw_weights(len(WORDS), 15), "Où → là")
    )
    assert not [w for w in recwarn if "Glyph" in str(w.message)]


def test_dollar_signs_are_not_formulas():
    broken = r"$\frac$"
    plotting.to_array(plotting.plot_alignment([broken], [broken], np.ones((1, 1)), broken))
    plotting.to_array(plotting.plot_caption(Image.new("RGB", (9, 9)), [broken], np.ones((1, 4)), Grid(2, 2), broken))


def test_longer_texts_have_larger_figures():
    sizes = [plotting.plot_alignment("a" * n, "b" * n, draw_weights(n, n)).get_size_inches() for n in (5, 40, 80, 160)]
    assert (np.diff(sizes, axis=0) > 0).all()


def test_alignment_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=re.escape("alpha is (2, 3), but there are 3 target and 2 source tokens")):
        plotting.plot_alignment("ab", "abc", np.ones((2, 3)))


@pytest.mark.parametrize("size", [(224, 224), (16, 16), (1000, 50), (50, 1000), (3, 5)])
@pytest.mark.parametrize("cell", [0, 6, 23, 24, 36, 48])
def test_attended_region_is_the_brightest(size, cell):
    alpha = np.zeros(49)
    alpha[cell] = 0.01
    width, height = size
    light = spread_weights(alpha, Grid(7, 7), height, width)
    assert light.shape == (height, width)
    assert light.min() >= 0
    y, x = np.unravel_index(light.argmax(), light.shape)
    if min(size) >= 7:
        assert (int((y + 0.5) * 7 / height), int((x + 0.5) * 7 / width)) == divmod(cell, 7)

    lit = plotting.highlight(Image.new("RGB", size, (200, 100, 50)), alpha, Grid(7, 7))
    assert lit.shape == (height, width, 3)
    assert lit.sum(axis=2)[y, x] == lit.sum(axis=2).max()
    if min(size) >= 16:
        far = lit[0 if y > height / 2 else -1, 0 if x > width / 2 else -1].astype(int)
        assert far.max() < 60
        assert np.ptp(far) <= 3  # gray


def test_brightness_is_relative_to_the_greatest_weight():
    image = Image.effect_mandelbrot((64, 64), (-2, -1.5, 1, 1.5), 50).convert("RGB")
    alpha = draw_weights(1, 16)[0]
    assert np.array_equal(
        plotting.highlight(image, alpha, Grid(4, 4)), plotting.highlight(image, alpha / 1024, Grid(4, 4))
    )


def test_uniform_attention_is_uniform_light():
    assert spread_weights(np.full(196, 1 / 196), Grid(14, 14), 30, 40) == pytest.approx(1 / 196)


@pytest.mark.parametrize("bad", [np.full(4, np.nan), np.zeros(4)])
def test_image_without_attention_is_dark(bad):
    assert plotting.highlight(Image.new("RGB", (8, 8), "white"), bad, Grid(2, 2)).max() < 100


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK"])
def test_caption_panels_show_the_image_then_each_word(mode):
    words = ["un", "chien", "$court$", "près", "de", "l'eau", "<eos>"]
    alpha = np.eye(49)[:7]
    image = Image.new("RGB", (300, 200), (255, 0, 0)).convert(mode)
    figure = plotting.plot_caption(image, words, alpha, Grid(7, 7), "un chien court près de l'eau")
    assert [axes.get_title() for axes in figure.axes] == ["", *words]
    assert [text.get_text() for text in figure.texts] == ["un chien court près de l'eau"]
    tops = [round(axes.get_position().y1, 6) for axes in figure.axes]
    lefts = [round(axes.get_position().x0, 6) for axes in figure.axes]
    assert len(set(tops)) == 2
    assert len(set(lefts)) == 5
    assert tops == sorted(tops, reverse=True)
    assert is_whole(figure)
    for axes in figure.axes:
        box = axes.get_window_extent()
        assert box.width / box.height == pytest.approx(1.5)
    first = figure.axes[0].images[0].get_array()
    expected = np.asarray(image.convert("RGB"))[0, 0]
    assert (first == expected).all()


@pytest.mark.parametrize("size", [(16, 16), (1000, 50), (50, 1000), (1, 1), (2000, 3)])
def test_panels_of_odd_images(size):
    words = ["un", "anticonstitutionnellement" * 2, "anticonstitutionnellement", "b", "c", "d"]
    figure = plotting.plot_caption(Image.new("RGB", size), words, draw_weights(6, 16), Grid(4, 4), "")
    assert is_whole(figure)
    titles = get_boxes(figure, [axes.title for axes in figure.axes if axes.get_title()])
    panels = get_boxes(figure, figure.axes)
    for a, b in itertools.combinations(panels + titles, 2):
        assert not a.overlaps(b)
    if max(size) / min(size) <= 20:
        assert panels[0].width / panels[0].height == pytest.approx(size[0] / size[1])


def test_caption_of_no_words_is_the_image():
    assert len(plotting.plot_caption(Image.new("RGB", (9, 9)), [], np.zeros((0, 49)), Grid(7, 7)).axes) == 1


def test_caption_panels_refuse_other_numbers_of_regions_or_words():
    image = Image.new("RGB", (9, 9))
    with pytest.raises(UserError, match="7 x 7 regions and 0 without a place, but 50 attention weights"):
        plotting.plot_caption(image, ["a"], np.ones((1, 50)), Grid(7, 7))
    with pytest.raises(ValueError, match="alpha has 1 rows, but there are 2 words"):
        plotting.plot_caption(image, ["a", "b"], np.ones((1, 49)), Grid(7, 7))


def test_to_array_returns_the_pixels_of_the_figure():
    figure = plotting.plot_alignment("ab", "cd", np.eye(2))
    pixels = plotting.to_array(figure)
    width, height = figure.get_size_inches() * plotting.DPI
    assert pixels.dtype == np.uint8
    assert pixels.shape == (int(height), int(width), 3)
    assert (pixels[0] == 255).all()
    assert pixels.flags.c_contiguous
    pixels[:] = 0  # a copy: the figure is drawn again
    assert plotting.to_array(figure).max() == 255


def test_saved_png_shows_the_figure(tmp_path):
    figure = plotting.plot_alignment(list(FRENCH[:12]), list("Oui !"), draw_weights(5, 12), "Où ?")
    path = tmp_path / "new" / "été.PNG"
    plotting.save(figure, path)
    assert os.listdir(path.parent) == ["été.PNG"]
    drawn = Image.fromarray(plotting.to_array(figure))
    with Image.open(path) as saved:
        assert saved.format == "PNG"
        small = np.asarray(saved.convert("RGB").resize(drawn.size, Image.Resampling.BOX), dtype=float)
    assert np.abs(small - np.asarray(drawn)).mean() < 5


def test_saved_pdf_and_svg(tmp_path):
    figure = plotting.plot_caption(Image.new("RGB", (20, 10)), ["forêt"], np.ones((1, 4)), Grid(2, 2))
    plotting.save(figure, tmp_path / "a.pdf")
    plotting.save(figure, tmp_path / "a.svg")
    data = (tmp_path / "a.pdf").read_bytes()
    assert data.startswith(b"%PDF")
    assert b"/Type3" not in data
    svg = ElementTree.parse(tmp_path / "a.svg").getroot()
    assert svg.tag.endswith("svg")
    assert [element.text.strip() for element in svg.iter() if element.tag.endswith("}text")] == ["forêt"]


def test_installed_fonts_of_other_scripts_stand_behind_the_own_ones(monkeypatch):
    monkeypatch.setattr(plotting.font_manager, "get_font_names", lambda: ["Noto Sans CJK JP", "Arial", "DejaVu Sans"])
    found = plotting.list_fonts.__wrapped__("DejaVu Sans Mono")
    assert found == ["DejaVu Sans Mono", "DejaVu Sans", "Noto Sans CJK JP"]


@pytest.mark.parametrize("name", ["a.gif", "a", "a.png.txt"])
def test_unknown_suffix_is_refused(tmp_path, name):
    figure = plotting.plot_alignment("ab", "cd", np.eye(2))
    with pytest.raises(UserError, match=rf"{name}: .*use \.png, \.pdf, \.svg"):
        plotting.save(figure, tmp_path / name)
    assert not os.listdir(tmp_path)


def test_failed_save_leaves_nothing(tmp_path, monkeypatch):
    figure = plotting.plot_alignment("ab", "cd", np.eye(2))
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match=r"a\.png: cannot be written"):
        plotting.save(figure, tmp_path / "file" / "a.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match=r"folder\.png: cannot be written"):
        plotting.save(figure, tmp_path / "folder.png")

    def full(self, path, **kwargs):
        path.write_bytes(b"half a image")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(figure), "savefig", full)
    with pytest.raises(UserError, match=r"a\.png: cannot be written: No space left on device"):
        plotting.save(figure, tmp_path / "a.png")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.png"]


def test_figures_are_drawn_by_agg():
    assert isinstance(plotting.plot_alignment("a", "b", np.ones((1, 1))).canvas, FigureCanvasAgg)
