"""The HTML page holds its texts, escaped, and its figures as images."""

import base64
import io
import re

import numpy as np
from PIL import Image

from attendgen.visualization import plotting
from attendgen.visualization.html_report import write_report


def test_report_holds_headings_notes_and_figures(tmp_path):
    figures = [plotting.plot_alignment("ab", "cd", np.eye(2)), plotting.plot_alignment("abc", "d", np.ones((1, 3)))]
    entries = [('un <chien> "noir"', "a & b", figures[0]), ("deux", "note", figures[1])]
    write_report(tmp_path / "folder" / "report.html", "captions & <attention>", entries)
    page = (tmp_path / "folder" / "report.html").read_text(encoding="utf-8")
    assert page.count("captions &amp; &lt;attention&gt;") == 2
    assert "<h2>un &lt;chien&gt; &quot;noir&quot;</h2>" in page
    assert "<p>a &amp; b</p>" in page
    images = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(images) == len(figures)
    for data, figure in zip(images, figures, strict=True):
        width, height = figure.get_size_inches() * 110
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert image.size == (int(width), int(height))
    assert "http" not in page  # the page needs no other file
