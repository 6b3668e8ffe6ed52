"""The attention page in a real browser: what it shows to the pointer, to keys, to a screen reader, and in print."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attendgen.inference.report import report
from helpers.attention_pages import HOSTILE, make_caption, make_result
from helpers.browser import Browser, find_chromium

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_chromium() is None, reason="there is no Chromium")]

CANVAS = ".pictures canvas"
LIKELIEST = [{"cat": -0.5, "dog": -1.2, HOSTILE: -3.0}] * 3
COLOR = "getComputedStyle(document.querySelector('{}')).backgroundColor"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _quiet(browser: Browser) -> Iterator[None]:
    """No page may ask for another file, or leave an error."""
    browser.requests.clear()
    browser.errors.clear()
    browser.emulate()
    yield
    browser.run("1")  # what happened before has been recorded
    assert browser.errors == []
    assert [address for address in browser.requests if not address.startswith(("file:", "data:"))] == []
    assert len([address for address in browser.requests if address.startswith("file:")]) == 1


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    """A white picture with captions of a 3 x 3 grid: "a" looks at the top left, "big" at the center, "dog" below it."""
    results = [
        make_caption("a big dog", [0, 4, 7], alternatives=LIKELIEST),
        make_caption("two dogs", [8, 2], score=-2.5, alternatives=LIKELIEST[:2]),
    ]
    report(
        {"tiny": results},
        tmp_path / "page.html",
        images=[Image.new("RGB", (300, 300), "white")],
        title="Attention of tiny",
    )
    return tmp_path / "page.html"


def brightness(browser: Browser, x: float, y: float, number: int = 0) -> int:
    """Return how bright a place of a shown picture is, from 0 to 255."""
    data = browser.run(f"document.querySelectorAll('{CANVAS}')[{number}].toDataURL()")
    with Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))) as image:
        gray = image.convert("L")
        found = gray.getpixel((int(x * image.width), int(y * image.height)))
    assert isinstance(found, int)
    return found


def test_hovering_a_word_shows_where_the_model_looked(browser: Browser, captions: Path) -> None:
    browser.open(captions)
    assert browser.run("document.title") == "Attention of tiny"
    browser.hover(".output .token", 2)
    assert (
        browser.text(".status")
        == "dog · probability 25 % · looks at the bottom center, 68 % of the weight on one region"
    )
    assert brightness(browser, 0.5, 0.85) > 200 > 100 > brightness(browser, 0.1, 0.1)
    browser.hover(".output .token", 0)
    assert browser.text(".status").startswith("a · probability 50 % · looks at the top left")
    assert brightness(browser, 0.1, 0.1) > 200 > 100 > brightness(browser, 0.5, 0.85)
    assert browser.texts(".alternatives li") == ["cat\n61 %", "dog\n30 %", f"{HOSTILE}\n5.0 %", "a\n50 %"]
    assert browser.texts(".strip figcaption") == ["a", "big", "dog"]


def test_the_map_can_be_a_raw_grid_and_weaker(browser: Browser, captions: Path) -> None:
    browser.open(captions)
    browser.hover(".output .token", 1)
    edge = (0.37, 0.5)  # within the cell of the center, near to its edge
    smooth = brightness(browser, *edge)
    browser.click("input[value=grid]")
    assert brightness(browser, *edge) > 250 > smooth
    dark = brightness(browser, 0.2, 0.2)
    browser.run("document.getElementById('strength').value = 20")
    browser.run("document.getElementById('strength').dispatchEvent(new Event('input', {bubbles: true}))")
    assert brightness(browser, 0.2, 0.2) > dark + 60


def test_keys_move_fix_compare_and_release(browser: Browser, captions: Path) -> None:
    browser.open(captions)
    browser.run("document.querySelector('.output .token[tabindex=\"0\"]').focus()")
    browser.press("Home")
    assert browser.text(".status").startswith("a ·")
    browser.press("ArrowRight", "ArrowRight", "ArrowRight")  # stays at the end
    assert browser.run("document.activeElement.innerText") == "dog"
    browser.press("Enter", "ArrowLeft", "Enter")
    assert browser.texts(".pictures figcaption") == ["dog", "big"]
    assert browser.texts('[role=option][aria-selected="true"]') == ["big", "dog"]
    assert browser.texts(".status p")[-1] == "The weights of the two words overlap by 36 %"
    assert brightness(browser, 0.5, 0.5, 1) > 200 > brightness(browser, 0.5, 0.5, 0)
    browser.press("Escape")
    assert browser.texts(".pictures figcaption") == ["big"]
    browser.press("ArrowDown")
    assert browser.texts(".output .token") == ["two", "dogs"]
    assert browser.run("document.querySelector('.hypotheses [aria-checked=true]').innerText") == "two dogs\n−2.50"
    assert browser.run("document.activeElement.innerText") in ("two", "dogs")


def test_clicks_choose_hypotheses_and_fix_words(browser: Browser, captions: Path) -> None:
    browser.open(captions)
    browser.click(".hypotheses button", 1)
    browser.click(".output .token", 0)
    browser.hover(".output .token", 1)
    assert browser.texts(".pictures figcaption") == ["two", "dogs"]
    browser.click(".output .token", 0)
    browser.hover(".output .token", 1)
    assert browser.texts(".pictures figcaption") == ["dogs"]


def test_places_of_hard_attention_are_drawn(browser: Browser, tmp_path: Path) -> None:
    hard = make_caption("a big dog", [0, 4, 4], share=1.0)
    report(hard, tmp_path / "page.html", images=[Image.new("RGB", (300, 300), "black")])
    browser.open(tmp_path / "page.html")
    browser.hover(".output .token", 1)
    assert browser.text(".status") == "big · probability 33 % · looks at the center"
    assert brightness(browser, 1 / 3 + 0.006, 0.5) > 200  # the outline of the shown place
    assert 60 < brightness(browser, 0.002, 0.1) < 200  # that of another one
    assert brightness(browser, 0.8, 0.8) < 10


def test_models_stand_side_by_side(browser: Browser, tmp_path: Path) -> None:
    models = {"one": make_caption("a dog", [0, 4]), "two": make_caption("a cat", [8, 4])}
    report(models, tmp_path / "page.html", images=[Image.new("RGB", (300, 300), "white")])
    browser.open(tmp_path / "page.html")
    assert browser.texts("h3") == ["one", "two"]
    browser.hover(".output .token", 0)
    browser.hover(".output .token", 2)
    assert brightness(browser, 0.1, 0.1, 0) > 200 > brightness(browser, 0.1, 0.1, 1)
    tops = browser.run("[...document.querySelectorAll('h3')].map((e) => e.getBoundingClientRect().top)")
    assert tops[0] == tops[1]


def test_many_images_draw_their_words_when_they_are_scrolled_into_view(browser: Browser, tmp_path: Path) -> None:
    results = [[make_caption("a dog", [0, 4])]] * 25
    report(results, tmp_path / "page.html", images=[Image.new("RGB", (300, 300), "white")] * 25)
    browser.open(tmp_path / "page.html")
    drawn = "[...document.querySelectorAll('.strip')].map((e) => e.children.length)"
    assert browser.run(drawn)[-1] == 0
    browser.hover(".output .token", 49)
    assert browser.wait_for(f"{drawn}.at(-1) === 2")
    assert browser.wait_for(f"{drawn}[0] === 2")
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert browser.run(drawn) == [2] * 25


def test_hovering_either_side_shades_the_other(browser: Browser, tmp_path: Path) -> None:
    weights = np.array([[0.85, 0.15, 0.0], [0.12, 0.28, 0.6], [0.0, 1.0, 0.0]])  # 255 steps are exact
    result = make_result(["a", "dog", "<eos>"], weights, source=["un", "chien", "noir"])
    report(result, tmp_path / "page.html")
    browser.open(tmp_path / "page.html")

    def shades(part: str) -> list[float]:
        script = f"[...document.querySelectorAll('{part} .token')].map((e) => Number(e.style.getPropertyValue('--w')))"
        return list(browser.run(script))

    browser.hover(".output .token", 1)
    np.testing.assert_allclose(np.array(shades(".view")) / max(shades(".view")), [0.2, 0.28 / 0.6, 1], atol=0.01)
    assert browser.text(".status") == "dog · probability 33 % · looks at noir 60 %, chien 28 %, un 12 %"
    browser.hover(".view .token", 1)
    np.testing.assert_allclose(np.array(shades(".output")) / max(shades(".output")), [0.15, 0.28, 1], atol=0.01)
    assert browser.text(".status") == "chien is looked at by <eos> 100 %, dog 28 %, a 15 %"
    assert browser.texts(".matrix th") == ["un", "chien", "noir", "a", "dog", "<eos>"]
    cells = browser.run("[...document.querySelectorAll('.matrix td[title]')].map((e) => e.title)")
    assert cells[:3] == ["un 85 %", "chien 15 %", "noir 0.0 %"]


def test_the_cells_of_a_table_light_up(browser: Browser, tmp_path: Path) -> None:
    source, rows = ["name The", "name Eagle", "food French"], [1, 1, 2]
    weights = np.array([[0.5, 0.5, 0.0], [0.0, 0.2, 0.8]])
    report(make_result(["Eagle", "French"], weights, source=source, rows=rows), tmp_path / "page.html")
    browser.open(tmp_path / "page.html")
    assert browser.texts(".cells .row") == ["name The\nname Eagle", "food French"]
    browser.hover(".output .token", 1)
    lit = browser.run("[...document.querySelectorAll('.cells .token')].map((e) => +e.style.getPropertyValue('--w'))")
    np.testing.assert_allclose(np.array(lit) / max(lit), [0, 0.25, 1], atol=0.01)
    browser.hover(".cells .token", 1)
    tops = browser.run("[...document.querySelectorAll('.cells .token')].map((e) => e.offsetTop)")
    assert len(set(tops)) == 1  # short rows stand side by side
    assert browser.text(".status") == "name Eagle is looked at by Eagle 50 %, French 20 %"


def test_a_large_table_scrolls_to_the_cell_that_a_word_looks_at(browser: Browser, tmp_path: Path) -> None:
    source, rows = [f"PTS {i}" for i in range(600)], [i // 6 for i in range(600)]
    weights = np.zeros((2, 600))
    weights[0, 3] = weights[1, 590] = 1
    report(make_result(["first", "last"], weights, source=source, rows=rows), tmp_path / "page.html")
    browser.open(tmp_path / "page.html")
    browser.hover(".output .token", 0)
    assert browser.run("document.querySelector('.cells').scrollTop") == 0
    browser.hover(".output .token", 1)
    script = "document.querySelectorAll('.cells .token')[590].getBoundingClientRect().top"
    low, high = browser.run("(b => [b.top, b.bottom])(document.querySelector('.cells').getBoundingClientRect())")
    assert low <= browser.run(script) <= high


def test_right_to_left_text_is_read_from_the_right(browser: Browser, tmp_path: Path) -> None:
    result = make_result(["كلب", "أسود"], np.eye(2), source=["black", "dog"])
    report(result, tmp_path / "page.html")
    browser.open(tmp_path / "page.html")
    assert browser.run("getComputedStyle(document.querySelector('.output .tokens')).direction") == "rtl"
    assert browser.run("getComputedStyle(document.querySelector('.view .tokens')).direction") == "ltr"
    browser.run("document.querySelectorAll('.output .token')[0].focus()")
    browser.press("ArrowLeft")
    assert browser.run("document.activeElement.innerText") == "أسود"


def test_a_continuation_shades_probabilities_and_marks_surprises(browser: Browser, tmp_path: Path) -> None:
    weights = np.zeros((30, 5 + 30))
    weights[range(30), range(4, 34)] = 1  # each looks at the token before it
    tokens = list("abcdefghijklmnopqrstuvwxyzabcd")
    result = make_result(tokens, weights, source=[*"It was"[:5], *tokens], context=list("It wa"), text="".join(tokens))
    report(result, tmp_path / "page.html")
    browser.open(tmp_path / "page.html")
    marked = browser.texts(".surprising")
    assert marked == tokens[19:]  # token t has the probability 1 / (t + 2)
    shades = browser.run(
        "[...document.querySelectorAll('.output .token')].map((e) => +e.style.getPropertyValue('--shade'))"
    )
    assert shades == sorted(shades)
    browser.hover(".output .token", 0)
    assert browser.text(".status") == "a · probability 50 % · looks at a 100 %"
    assert browser.run("+document.querySelectorAll('.view .token')[4].style.getPropertyValue('--w')") > 0.5
    browser.hover(".output .token", 3)
    assert browser.run("+document.querySelectorAll('.output .token')[2].style.getPropertyValue('--w')") > 0.5


def test_hostile_texts_run_nothing(browser: Browser, tmp_path: Path) -> None:
    result = make_result([HOSTILE, "b"], np.eye(2), source=[HOSTILE, "y"], text=HOSTILE)
    report({HOSTILE: result}, tmp_path / "page.html", title=HOSTILE)
    browser.open(tmp_path / "page.html")
    assert browser.run("document.querySelectorAll('img, script').length") == 2  # the data and the page's own script
    assert browser.run("document.title").startswith("</script><script>alert(1)")
    assert (
        browser.texts(".output .token")[0] == HOSTILE.replace("\u2028", "\n") or HOSTILE in browser.texts(".token")[0]
    )


def test_dark_mode_and_print(browser: Browser, captions: Path) -> None:
    browser.emulate("dark")
    browser.open(captions)
    dark = browser.run(COLOR.format("body"))
    browser.emulate("dark", media="print")
    assert browser.run(COLOR.format("body")) == "rgb(255, 255, 255)" != dark
    assert browser.run("getComputedStyle(document.querySelector('.toolbar')).display") == "none"


def test_a_screen_reader_finds_names_and_roles(browser: Browser, captions: Path) -> None:
    browser.open(captions)
    browser.ask("Accessibility.enable")
    nodes = browser.ask("Accessibility.getFullAXTree")["nodes"]
    found = {(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]}
    assert {
        ("listbox", "Words of the caption"),
        ("option", "dog"),
        ("radiogroup", "Hypotheses, best first"),
        ("slider", "strength"),
        ("heading", "Attention of tiny"),
    } <= found
    assert any(role == "status" for role, _ in found)
    assert any(role in ("image", "img") and "dog looks at the bottom center" in name for role, name in found)
