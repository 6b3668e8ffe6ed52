"""Reading torch's pickled files as plain records: nothing that they name is imported, called or constructed.

A pickle is a program for a small stack machine. The machine here builds lists, dicts and numbers as Python's does, but
where a class would be looked up it puts the name, and where it would be called a record of the name and the arguments.
"""

import io
import pickletools
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

LONGEST_PROGRAM = 64_000_000  # bytes; weights lie outside of it


class Name(NamedTuple):
    """The name of a class or a function."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Record:
    """What calling `name` with `arguments` would have made; its state, and what was put into it."""

    name: Name
    arguments: tuple[Any, ...]
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)
    elements: list[Any] = field(default_factory=list)


class StorageReference(NamedTuple):
    """The numbers of a tensor, which lie elsewhere in the file."""

    kind: Name
    key: str
    numel: int


class BrokenPickleError(Exception):
    """A pickle is broken, or does what no file of the expected kind does."""


class RecordReader:
    """The stack machine.

    Args:
        is_known: which names may occur; any other ends the reading.
    """

    def __init__(self, is_known: Callable[[Name], bool]) -> None:
        self.is_known = is_known
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def read(self, file: io.BytesIO) -> object:
        """Return the value of the pickle at a file's position, and move behind it.

        Raises:
            BrokenPickleError: it is broken, too long, or names something unknown.
        """
        self.stack, self.marks, self.memo = [], [], {}
        try:
            for opcode, argument, position in pickletools.genops(file):
                if position is not None and position > LONGEST_PROGRAM:
                    raise BrokenPickleError("a pickle of more than 64 MB beside its weights")
                if opcode.name == "STOP":
                    return self.stack.pop()
                run = OPERATIONS.get(opcode.name)
                if run is None:
                    raise BrokenPickleError(f"the operation {opcode.name}")
                run(self, argument)
        except (ValueError, TypeError, IndexError, KeyError, AttributeError, struct.error, RecursionError) as error:
            raise BrokenPickleError("a broken pickle") from error
        raise BrokenPickleError("a broken pickle")

    def pop_marked(self) -> list[Any]:
        """Remove what is above the last mark."""
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def find(self, module: object, name: object) -> Name:
        """Return a name.

        Raises:
            BrokenPickleError: it is unknown.
        """
        if not isinstance(module, str) or not isinstance(name, str):
            raise BrokenPickleError("a name that is not a text")
        found = Name(module, name)
        if not self.is_known(found):
            raise BrokenPickleError(f"the name {found}")
        return found

    def make(self, kind: object, arguments: object) -> None:
        """Push the record of a call."""
        if not isinstance(kind, Name) or not isinstance(arguments, tuple):
            raise BrokenPickleError("a call of something else than a name")
        self.stack.append(Record(kind, arguments))

    def build(self) -> None:
        """Give the record below the top its state."""
        state = self.stack.pop()
        if not isinstance(self.stack[-1], Record):
            raise BrokenPickleError("a state of something else than an object")
        self.stack[-1].state = state

    def set_items(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        """Put pairs into the dict on the top."""
        target = self.stack[-1]
        items = target.items if isinstance(target, Record) else target
        if not isinstance(items, dict):
            raise BrokenPickleError("items of something else than a dict")
        items.update(pairs)

    def extend(self, values: list[Any]) -> None:
        """Put values into the list on the top."""
        target = self.stack[-1]
        elements = target.elements if isinstance(target, Record) else target
        if not isinstance(elements, list):
            raise BrokenPickleError("elements of something else than a list")
        elements.extend(values)

    def refer(self, reference: object) -> None:
        """Push what a persistent id stands for: a storage, or a class with its source text."""
        match reference:
            case ("module", Name() as kind, *_):
                self.stack.append(kind)
            case ("storage", Name() as kind, str(key), _, int(numel), *_):
                self.stack.append(StorageReference(kind, key, numel))
            case _:
                raise BrokenPickleError("a reference to something else than weights")


Operation = Callable[[RecordReader, Any], None]


def _push(make: Callable[[], Any]) -> Operation:
    return lambda reader, _: reader.stack.append(make())


def _push_argument(reader: RecordReader, argument: object) -> None:
    reader.stack.append(argument)


def _push_marked(convert: Callable[[list[Any]], Any]) -> Operation:
    return lambda reader, _: reader.stack.append(convert(reader.pop_marked()))


def _push_tuple(size: int) -> Operation:
    def run(reader: RecordReader, _: object) -> None:
        values = tuple(reader.stack[len(reader.stack) - size :])
        if len(values) != size:
            raise IndexError
        del reader.stack[len(reader.stack) - size :]
        reader.stack.append(values)

    return run


def _pair(values: list[Any]) -> Iterable[tuple[Any, Any]]:
    return zip(values[::2], values[1::2], strict=True)


def _find_on_stack(reader: RecordReader, _: object) -> None:
    name, module = reader.stack.pop(), reader.stack.pop()
    reader.stack.append(reader.find(module, name))


def _find_named(reader: RecordReader, argument: str) -> None:
    reader.stack.append(reader.find(*argument.split(" ", 1)))


def _call(reader: RecordReader, _: object) -> None:
    arguments, kind = reader.stack.pop(), reader.stack.pop()
    reader.make(kind, arguments)


def _set_item(reader: RecordReader, _: object) -> None:
    value, key = reader.stack.pop(), reader.stack.pop()
    reader.set_items([(key, value)])


def _append(reader: RecordReader, _: object) -> None:
    value = reader.stack.pop()
    reader.extend([value])


def _memoize(reader: RecordReader, argument: object) -> None:
    reader.memo[argument if isinstance(argument, int) else len(reader.memo)] = reader.stack[-1]


def _ignore(reader: RecordReader, _: object) -> None:
    """Go on: of the protocol and of frames nothing needs to be known."""


CONSTANTS = (
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE "
    "SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8"
)
OPERATIONS: dict[str, Operation] = {
    **dict.fromkeys(CONSTANTS.split(), _push_argument),
    **dict.fromkeys(("PROTO", "FRAME"), _ignore),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _memoize),
    **dict.fromkeys(
        ("GET", "BINGET", "LONG_BINGET"), lambda reader, index: reader.stack.append(reader.memo[int(index)])
    ),
    **{f"TUPLE{size}": _push_tuple(size) for size in (1, 2, 3)},
    "MARK": lambda reader, _: reader.marks.append(len(reader.stack)),
    "POP": lambda reader, _: reader.stack.pop() and None,
    "NONE": _push(lambda: None),
    "NEWTRUE": _push(lambda: True),
    "NEWFALSE": _push(lambda: False),
    "EMPTY_LIST": _push(list),
    "EMPTY_TUPLE": _push(tuple),
    "EMPTY_DICT": _push(dict),
    "EMPTY_SET": _push(lambda: Record(Name("builtins", "set"), ())),
    "LIST": _push_marked(list),
    "TUPLE": _push_marked(tuple),
    "DICT": _push_marked(lambda values: dict(_pair(values))),
    "APPEND": _append,
    "APPENDS": lambda reader, _: reader.extend(reader.pop_marked()),
    "ADDITEMS": lambda reader, _: reader.extend(reader.pop_marked()),
    "SETITEM": _set_item,
    "SETITEMS": lambda reader, _: reader.set_items(_pair(reader.pop_marked())),
    "GLOBAL": _find_named,
    "STACK_GLOBAL": _find_on_stack,
    "REDUCE": _call,
    "NEWOBJ": _call,
    "BUILD": lambda reader, _: reader.build(),
    "BINPERSID": lambda reader, _: reader.refer(reader.stack.pop()),
}
