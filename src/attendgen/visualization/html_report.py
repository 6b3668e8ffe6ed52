"""A self-contained HTML page of captions and their attention."""

import base64
import html
import io
from collections.abc import Iterable
from pathlib import Path

from matplotlib.figure import Figure

from attendgen.utils.files import replacing

HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font-family: system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222; }}
article {{ margin: 2.5rem 0; }}
h2 {{ font-size: 1.2rem; margin: 0; }}
p {{ color: #666; margin: .3rem 0 .8rem; }}
img {{ max-width: 100%; border: 1px solid #ddd; }}
</style>
<h1>{title}</h1>
"""


ARTICLE = """<article>
<h2>{heading}</h2>
<p>{note}</p>
<img alt="attention for: {heading}" src="data:image/png;base64,{image}">
</article>
"""


def write_report(path: str | Path, title: str, entries: Iterable[tuple[str, str, Figure]]) -> None:
    """Write (heading, note, figure) entries as one self-contained HTML file, one after the other."""
    with replacing(Path(path)) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(HEAD.format(title=html.escape(title)))
        for heading, note, figure in entries:
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=110)
            image = base64.b64encode(buffer.getvalue()).decode()
            file.write(ARTICLE.format(heading=html.escape(heading), note=html.escape(note), image=image))
        file.write("</html>\n")
