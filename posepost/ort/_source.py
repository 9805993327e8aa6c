"""A model as its user has it, a path, bytes, an open file or onnx's own, made one thing; its external data found."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

MOST_BYTES = (1 << 31) - 1  # of one protobuf message

ModelLike = Any
"""Path (str or os.PathLike), bytes, bytearray, memoryview, a binary file that can be read, or an onnx.ModelProto."""


class Source(NamedTuple):
    """Where a model comes from."""

    name: str  # in error messages
    data: str | bytes  # its path, absolute, so that it stays right when the current directory changes; or the model

    @property
    def folder(self) -> str | None:
        """Where its external data must lie; None for a model in memory."""
        return os.path.dirname(self.data) if isinstance(self.data, str) else None


def source_of(model: ModelLike) -> Source:
    """The model as it was given; nothing of the caller's is changed, and a file stands afterwards where it stood.

    A binary file is read from where it stands, or from its start where it stands at its end.
    Raises TypeError for what is no model, ValueError for a ModelProto above 2 GB.
    """
    if isinstance(model, Source):
        return model
    if isinstance(model, bytes):
        return Source("model", model)
    if isinstance(model, (bytearray, memoryview)):
        return Source("model", bytes(model))
    if isinstance(model, (str, os.PathLike)):
        name = os.fsdecode(model)
        return Source(name, os.path.abspath(name))
    if isinstance(model, need("onnx").ModelProto):
        return Source("model", _serialized(model))
    if callable(getattr(model, "read", None)):
        data = _read(model)
        if isinstance(data, bytes):
            return Source("model", data)
    raise TypeError(f"model must be a path, bytes, a binary file or an onnx.ModelProto, got {type(model).__name__}")


def load_proto(model: ModelLike) -> Any:
    """The onnx.ModelProto of a model, without its external data, which must be there.

    Raises TypeError (what is no model), OSError (file), FileNotFoundError (external data that is missing), ValueError
    (not ONNX, above 2 GB, external data of a model in memory or out of the model's folder).
    """
    onnx = need("onnx")
    source = source_of(model)
    data = source.data
    if isinstance(data, str):
        with open(source.name if os.path.abspath(source.name) == data else data, "rb") as file:
            _check_length(source.name, os.fstat(file.fileno()).st_size)
            data = file.read()
    _check_length(source.name, len(data))
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except protobuf_error("DecodeError") as error:
        raise ValueError(f"{source.name}: not an ONNX model, or one that is cut short") from error
    texts = [value.name for value in (*proto.graph.input, *proto.graph.output)]
    texts += [text for entry in proto.metadata_props for text in (entry.key, entry.value)]
    if not proto.graph.output or not all(isinstance(text, str) for text in texts):  # what is no UTF-8 comes as bytes
        raise ValueError(f"{source.name}: not an ONNX model, or one that is cut short")
    _check_external_data(source, proto)
    return proto


def need(package: str) -> Any:
    """The package, or an ImportError that says what to install."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(f'running ONNX models needs {package}: pip install "posepost[ort]"') from error


def protobuf_error(name: str) -> type[Exception]:
    error: type[Exception] = getattr(importlib.import_module("google.protobuf.message"), name)
    return error


def _read(file: Any) -> Any:
    start = file.tell() if callable(getattr(file, "seekable", None)) and file.seekable() else None
    data = file.read()
    if start is not None:
        if not data and start:
            file.seek(0)
            data = file.read()
        file.seek(start)
    return data


def _serialized(proto: Any) -> bytes:
    try:
        data: bytes = proto.SerializeToString()
    except (ValueError, protobuf_error("EncodeError")) as error:
        raise ValueError(_too_long("model")) from error
    _check_length("model", len(data))
    return data


def _check_length(name: str, length: int) -> None:
    if length > MOST_BYTES:
        raise ValueError(_too_long(name))


def _too_long(name: str) -> str:
    return (
        f"{name}: a model above 2 GB must have its weights in external data: save it with "
        "onnx.save_model(..., save_as_external_data=True) and give the path"
    )


def _check_external_data(source: Source, proto: Any) -> None:
    """Every file of external data lies in the folder of the model."""
    tensors = [*_graph_tensors(proto.graph), *(one for each in proto.functions for one in _node_tensors(each.node))]
    for location in sorted({location_of(tensor) for tensor in tensors if is_external(tensor)}):
        if source.folder is None:
            raise ValueError(
                f"{source.name}: its external data file {location} is looked for beside the model's file: give the "
                "path of the model"
            )
        if os.path.isabs(location) or os.path.normpath(location).split(os.sep)[0] in ("..", "."):
            raise ValueError(f"{source.name}: its external data file must lie in the model's folder, got {location!r}")
        if not os.path.isfile(os.path.join(source.folder, location)):
            path = os.path.join(os.path.dirname(source.name), location)
            raise FileNotFoundError(f"{source.name}: its external data file {path} is missing")


def is_external(tensor: Any) -> bool:
    return bool(tensor.data_location == tensor.EXTERNAL)


def location_of(tensor: Any) -> str:
    """The file of a tensor that is external data, from the folder of the model."""
    return next((str(entry.value) for entry in tensor.external_data if entry.key == "location"), "")


def _graph_tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Iterable[Any]) -> Iterator[Any]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from _graph_tensors(graph)
