"""The attention page: one HTML file, which needs no network, of outputs and where the model looked at each token.

The page is made from a template, style and scripts in the folder `page`, and from its data as JSON. Texts of models and
files reach the page as data only: the template escapes them, the scripts make text nodes of them, and the page's
security policy runs no other script than its own.
"""

import base64
import hashlib
import json
from importlib.resources import files
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

SCRIPTS = ("core.js", "picture.js", "text.js", "panel.js", "start.js")
# what would end the element of the data, or a line of a script
ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def render_page(title: str, data: dict[str, Any]) -> str:
    """Return the HTML of the page.

    Args:
        data: see `attendgen.inference.report.make_data`.
    """
    folder = files("attendgen.visualization") / "page"
    style = (folder / "page.css").read_text(encoding="utf-8")
    scripts = "\n".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS)
    script = f'"use strict";\n(() => {{\n{scripts}}})();\n'
    template = Environment(autoescape=True).from_string((folder / "page.html.j2").read_text(encoding="utf-8"))
    return template.render(
        title=title,
        data=data,
        json=Markup(to_safe_json(data)),
        style=Markup(style),
        style_hash=hash_source(style),
        script=Markup(script),
        script_hash=hash_source(script),
    )


def to_safe_json(data: Any) -> str:  # noqa: ANN401  # any plain data
    """Return plain data as JSON that can stand in a `<script>` element: no text in it ends the element."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.translate(ESCAPES).encode("utf-8", "replace").decode()


def hash_source(source: str) -> str:
    """Return the hash by which a security policy names a style or script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}"
