"""Arguments whose values are paths or texts, in the grammar of Hydra.

Hydra's grammar knows few characters outside quotes. A path is quoted for it, so that a user need not.
"""

import re
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from attendgen.utils.errors import UserError
from attendgen.utils.files import exists

# the last part of a field that holds a file or a folder
PATH_NAMES = {"root", "train", "val", "test", "cache", "outputs", "run", "init_from", "like", "resume"}
PATH_NAMES |= {"path", "file", "folder", "dir", "dirpath", "filepath", "save_dir", "log_dir", "root_dir", "images"}
SWEPT = re.compile(r"(choice|glob|shuffle|sort|range|interval|tag|str|int|float|bool|json_str)\(.*\)", re.DOTALL)
OWN_GRAMMAR = ("[", "{", "(", "'", '"')


def holds_path(key: str) -> bool:
    """Return whether a field holds a file or a folder, by its name."""
    group, _, name = key.lstrip("+").rpartition(".")
    return name in PATH_NAMES if group or name in ("init_from", "like", "resume") else False


def expand_home(value: str) -> str:
    """Return a path in which `~` at the beginning is the home folder."""
    if value != "~" and not value.startswith("~/"):
        return value
    return str(Path(value).expanduser())


def quote(value: str) -> str:
    r"""Return a text in quotes of Hydra's; a backslash matters before a quote alone."""
    escaped = re.sub(r"(\\*)(')", r"\1\1\\\2", value)
    return "'" + re.sub(r"(\\+)$", r"\1\1", escaped) + "'"


def unquote(value: str) -> str:
    """Return the text that `quote` has put in quotes; other values as they are."""
    if len(value) < 2 or value[0] != "'" or value[-1] != "'":
        return value
    inner = re.sub(r"(\\+)$", lambda found: found[1][: len(found[1]) // 2], value[1:-1])
    return re.sub(r"(\\+)'", lambda found: found[1][: len(found[1]) // 2] + "'", inner)


def quote_arguments(arguments: list[str], is_sweep: bool) -> list[str]:
    """Return overrides that Hydra can parse: paths, and texts that its grammar does not know, are quoted.

    Args:
        is_sweep: whether commas separate the values of a sweep.

    Raises:
        UserError: a value begins like a list, a dict or a quoted text, and does not end like one.
    """
    return [_quote_argument(argument, is_sweep) for argument in arguments]


def _quote_argument(argument: str, is_sweep: bool) -> str:
    key, equals, value = argument.partition("=")
    if not equals or value in ("", "null") or "${" in value or SWEPT.fullmatch(value):
        return argument
    is_path = holds_path(key)
    if is_path and value.startswith("[") and value.endswith("]") and not exists(value):
        return f"{key}=[{','.join(_quote_path(part.strip()) for part in value[1:-1].split(','))}]"
    if is_path and not _is_quoted(value):
        parts = [part.strip() for part in value.split(",")] if is_sweep else [value]
        return f"{key}={','.join(map(_quote_path, parts))}"
    error = find_syntax_error(argument)
    if error is None:
        return argument
    if value.startswith(OWN_GRAMMAR):
        raise UserError(f"{argument}: {error}; put quotes around a text with such characters: \"{key}='...'\"")
    parts = value.split(",") if is_sweep else [value]
    quoted = f"{key}={','.join(map(quote, parts))}"
    error = find_syntax_error(quoted)
    if error is not None:
        raise UserError(f"{argument}: {error}; expected KEY=VALUE")
    return quoted


def _quote_path(value: str) -> str:
    value = expand_home(value)
    if _is_quoted(value) or value in ("", "null"):
        return value
    try:
        is_read_as_written = OverridesParser.create().parse_override(f"key={value}").value() == value
    except (HydraException, ValueError):  # a number of thousands of digits
        is_read_as_written = False
    return value if is_read_as_written else quote(value)


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" and not exists(value)


def find_syntax_error(argument: str) -> str | None:
    """Return why Hydra cannot parse an override; None if it can."""
    try:
        OverridesParser.create().parse_override(argument)
    except (HydraException, ValueError) as error:
        reason = str(error.__cause__ or error).partition("See https")[0]
        return "not a value in Hydra's grammar" if "LexerNoViable" in reason else " ".join(reason.split())
    return None
