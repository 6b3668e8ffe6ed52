"""Reading files of `torch.save` that hold more than plain weights, without executing anything in them."""

import io
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attendgen.postprocess.pickle_records import BrokenPickleError, Name, Record, RecordReader, StorageReference
from attendgen.utils.errors import UserError, describe_refusal

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
REBUILD_TENSOR = (Name("torch._utils", "_rebuild_tensor"), Name("torch._utils", "_rebuild_tensor_v2"))
REBUILD_PARAMETER = Name("torch._utils", "_rebuild_parameter")


def is_part_of_torch(name: Name) -> bool:
    """Return whether a name is one of those by which torch saves tensors and dicts of them."""
    if name.module in ("torch", "torch.cuda", "torch.storage"):
        return name.name in (*DTYPES, "Size", "device", "UntypedStorage")
    return name in (*REBUILD_TENSOR, REBUILD_PARAMETER) or str(name) in (
        "collections.OrderedDict",
        "collections.defaultdict",
        "builtins.set",
        "builtins.dict",
        "__builtin__.set",
        "__builtin__.dict",
    )


class TorchFile(NamedTuple):
    """A file of `torch.save`: its value as records, and the bytes of its storages by key."""

    value: Any
    storages: dict[str, memoryview]


def read_torch_file(path: Path, is_known: Callable[[Name], bool]) -> TorchFile:
    """Read a file of `torch.save` in either of its two formats.

    Args:
        is_known: which names may occur in it.

    Raises:
        UserError: the file is missing, broken, or names something unknown.
    """
    try:
        data = memoryview(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: {describe_refusal(error)}") from error
    reader = RecordReader(is_known)
    try:
        if zipfile.is_zipfile(io.BytesIO(data)):
            return _read_zip(data, reader)
        return _read_legacy(data, reader)
    except BrokenPickleError as error:
        raise UserError(f"{path}: holds {error}; give a checkpoint of the kind that is imported") from error
    except (zipfile.BadZipFile, ValueError, KeyError, struct.error, EOFError) as error:
        raise UserError(f"{path}: broken, or not a file of torch.save; copy or download it again") from error


def _read_zip(data: memoryview, reader: RecordReader) -> TorchFile:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        program = next((name for name in names if name.endswith("/data.pkl") or name == "data.pkl"), None)
        if program is None:
            raise BrokenPickleError("no data.pkl")
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > len(data):
                raise BrokenPickleError("compressed parts")
        value = reader.read(io.BytesIO(archive.read(program)))
        folder = program.removesuffix("data.pkl") + "data/"
        storages = {
            name.removeprefix(folder): memoryview(archive.read(name)) for name in names if name.startswith(folder)
        }
    return TorchFile(value, storages)


def _read_legacy(data: memoryview, reader: RecordReader) -> TorchFile:
    """Read magic number, protocol, system, value and keys, one pickle each, and the storages behind them."""
    file = io.BytesIO(data)
    if reader.read(file) != LEGACY_MAGIC:
        raise BrokenPickleError("another magic number")
    reader.read(file)
    reader.read(file)
    value = reader.read(file)
    references = {item.key: item for item in find_storages(value)}
    keys = reader.read(file)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise BrokenPickleError("no list of storages")
    storages = {}
    for key in keys:
        (numel,) = struct.unpack("<q", file.read(8))
        size = numel * DTYPES[references[key].kind.name].itemsize
        start = file.tell()
        if not 0 <= size <= len(data) - start:
            raise BrokenPickleError("a storage that is longer than the file")
        storages[key] = data[start : start + size]
        file.seek(start + size)
    return TorchFile(value, storages)


def find_storages(value: object) -> Iterator[StorageReference]:
    """Yield the storages that a value refers to, each object of it visited once."""
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, StorageReference):
            yield item
        elif isinstance(item, list | tuple | dict | Record) and id(item) not in seen and not isinstance(item, Name):
            seen.add(id(item))
            if isinstance(item, Record):
                waiting += [item.arguments, item.state, item.items, item.elements]
            elif isinstance(item, dict):
                waiting += [*item.keys(), *item.values()]
            else:
                waiting += item


def get_items(value: object) -> dict[Any, Any]:
    """Return the items of a dict, or of the record of an ordered one.

    Raises:
        BrokenPickleError: it is neither.
    """
    if isinstance(value, dict):
        return value
    if not isinstance(value, Record) or str(value.name) != "collections.OrderedDict":
        raise BrokenPickleError("something else than a dict")
    pairs = value.arguments[0] if value.arguments else []
    if not isinstance(pairs, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise BrokenPickleError("something else than a dict")
    return {**dict(pairs), **value.items}


def is_tensor(value: object) -> bool:
    """Return whether a value is the record of a tensor or a parameter."""
    return isinstance(value, Record) and value.name in (*REBUILD_TENSOR, REBUILD_PARAMETER)


def build_tensor(value: object, storages: dict[str, memoryview]) -> Tensor:
    """Return the tensor of a record.

    Raises:
        BrokenPickleError: it is none, or reaches beyond its storage.
    """
    match value:
        case Record(name=name, arguments=(inner, *_)) if name == REBUILD_PARAMETER and inner is not value:
            return build_tensor(inner, storages)
        case Record(name=name, arguments=(StorageReference() as reference, offset, size, stride, *_)) if (
            name in REBUILD_TENSOR
        ):
            return _view(reference, offset, _get_sizes(size), _get_sizes(stride), storages)
    raise BrokenPickleError("something else than a tensor")


def _get_sizes(value: object) -> tuple[int, ...]:
    """Return the numbers of a shape: a tuple, or the record of a `torch.Size`."""
    if isinstance(value, Record) and str(value.name) == "torch.Size" and value.arguments:
        value = value.arguments[0]
    if not isinstance(value, tuple) or not all(type(number) is int and number >= 0 for number in value):
        raise BrokenPickleError("a shape that is not whole numbers")
    return value


def _view(
    reference: StorageReference,
    offset: object,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    storages: dict[str, memoryview],
) -> Tensor:
    dtype, data = DTYPES.get(reference.kind.name), storages.get(reference.key)
    if dtype is None or data is None or type(offset) is not int or offset < 0 or len(size) != len(stride):
        raise BrokenPickleError("a tensor without its numbers")
    if 0 in size:
        return torch.empty(size, dtype=dtype)
    last = offset + sum((count - 1) * step for count, step in zip(size, stride, strict=True))
    if last >= len(data) // dtype.itemsize:
        raise BrokenPickleError("a tensor that reaches beyond its numbers")
    numbers = torch.frombuffer(bytearray(data), dtype=dtype, count=len(data) // dtype.itemsize)
    return numbers.as_strided(size, stride, offset).contiguous()
