"""One warning for all characters that no installed font has."""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from attendgen.utils.errors import format_some

log = logging.getLogger(__name__)

MISSING = re.compile(r"Glyph (\d+) .*missing from")
warned: set[str] = set()  # characters that this process has named


@contextmanager
def collect_missing_glyphs() -> Iterator[None]:
    """Replace matplotlib's warnings of characters without a glyph by a single one per process."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    found: dict[str, None] = {}
    for warning in caught:
        glyph = MISSING.search(str(warning.message))
        if glyph is None:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        else:
            found[chr(int(glyph[1]))] = None
    if found and not warned:
        names = format_some([f"{name} (U+{ord(name):04X})" for name in found])
        log.warning("no installed font has %s: boxes stand for them; install a font such as Noto Sans CJK", names)
    warned.update(found)
