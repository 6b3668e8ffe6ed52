"""Vocabularies and tokenizers as plain data: `_target_`, the name of a class, and its arguments."""

import sys
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from hydra.utils import get_object

from attendgen.config.instantiate import get_first_line
from attendgen.config.trust import require_trusted_name
from attendgen.utils.errors import UserError

VOCABULARY, PAIR = "attendgen.text.Vocabulary", "attendgen.text.PairVocabulary"
FIELDS = ("normalizer", "tokens")  # of a `Vocabulary`, beside its level or its tokenizer


@runtime_checkable
class Describable(Protocol):
    """A part that can be made again from plain data."""

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments of the constructor as plain data."""


def describe(part: Describable) -> dict[str, Any]:
    """Return the public name of a part's class, and its arguments, as plain data."""
    kind = type(part)
    package, _, rest = kind.__module__.partition(".")
    module = f"{package}.{rest.partition('.')[0]}" if package == "attendgen" else kind.__module__
    return {"_target_": f"{module}.{kind.__qualname__}", **part.to_dict()}


def find_source(part: Any) -> str:
    """Return the source of the modules of the user's own that define a part or its tokenizer; empty if none does.

    What was encoded with other code must not be taken for what this code would encode.
    """
    names = {type(each).__module__ for each in (part, getattr(part, "tokenizer", None))}
    files = [
        getattr(sys.modules.get(name), "__file__", None) for name in sorted(names) if not name.startswith("attendgen.")
    ]
    return "".join(Path(file).read_text("utf-8") for file in files if file)


def restore(data: Any, where: str | Path, field: str = "") -> Any:
    """Make a part from the data of `describe`; its arguments may describe parts, too.

    Args:
        where: the file that the data comes from.
        field: its place in the file.

    Raises:
        UserError: a class is not one that a saved run may make, it is missing, or it refuses its arguments.
    """
    if not isinstance(data, dict):
        return data
    parts = {name: restore(value, where, f"{field}{name}.") for name, value in data.items() if name != "_target_"}
    if "_target_" not in data:
        return parts
    name = data["_target_"]
    require_trusted_name(name, f"{field}_target_", where)
    try:
        kind = get_object(name)
    except Exception as error:  # whatever the import of a user's module raises
        raise UserError(
            f"{where}: {field}_target_={name}: {get_first_line(error)}; "
            "install its package, or put its folder on PYTHONPATH"
        ) from error
    try:
        return kind(**parts)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def add_default_targets(data: dict[str, Any]) -> dict[str, Any]:
    """Return the data of a vocabulary with the default class where it names none.

    Raises:
        KeyError: a field of the default class is missing.
    """
    if "source" in data and "target" in data:
        sides = {name: add_default_targets(data[name]) for name in ("source", "target")}
        return {"_target_": PAIR, **data, **sides}
    if data.get("_target_", VOCABULARY) == VOCABULARY:
        for name in (*FIELDS, "tokenizer" if "tokenizer" in data else "level"):
            data[name]  # a default would not be what the text was encoded with
    return {"_target_": VOCABULARY, **data}
