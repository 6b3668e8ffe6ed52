"""Links, paths and the length of pages in the documentation are right."""

import itertools
import re
from pathlib import Path

import pytest

from helpers.pages import PAGES, ROOT, fences, name_of, prose, read

LONGEST_README = 130  # lines
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in HEADING.findall(prose(page)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = next(n for n in itertools.count() if (f"{slug}-{n}" if n else slug) not in found)
        found.add(f"{slug}-{number}" if number else slug)
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{target}: no such file"
        if anchor:
            assert anchor in anchors(linked), f"{target}: no such heading"


PATH = re.compile(r"(?<![\w/.-])(?:src/)?(?:conf|scripts|tests|docs|attendgen)/[\w/-]+\.(?:py|md|yaml)")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_are_named_exist(page: Path) -> None:
    examples = {text.split("\n")[0].removeprefix("# ").strip() for _, text in fences(page)}
    for path in set(PATH.findall(read(page))) - examples - {"conf/local/default.yaml", "conf/sweep/NAME.yaml"}:
        places = (ROOT / path, ROOT / "src" / path)
        assert any(place.exists() for place in places), f"{path}: no such file"


def test_experiments_link_pages_that_exist() -> None:
    for path in (ROOT / "conf").rglob("*.yaml"):
        for page in re.findall(r"docs/[\w/]+\.md", read(path)):
            assert (ROOT / page).exists(), f"{path.name}: {page}"


def test_an_experiment_s_page_of_results_names_it() -> None:
    for path in (ROOT / "conf" / "experiment").glob("*.yaml"):
        for page in re.findall(r"docs/results/\w+\.md", read(path)):
            named = re.findall(r"(?<=experiment=)\w+|(?<=`)\w+", read(ROOT / page))
            assert path.stem in named, f"{page}: no row of {path.stem}"


def test_every_page_is_listed() -> None:
    index = ROOT / "docs" / "index.md"
    listed = {(index.parent / target.partition("#")[0]).resolve() for target in LINK.findall(read(index))}
    pages = {path for path in (ROOT / "docs").rglob("*.md") if path != index}
    assert {name_of(page) for page in pages} <= {name_of(page) for page in listed}


def test_the_readme_is_short() -> None:
    assert len(read(ROOT / "README.md").splitlines()) <= LONGEST_README
