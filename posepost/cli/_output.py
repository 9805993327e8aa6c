"""What a command leaves behind: files, whole or not at all; what it says of a session and of an error."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posepost.ort import PoseSession, TopDownSession

EXPECTED = (OSError, ValueError, RuntimeError, ImportError, MemoryError)


def make_folder(path: str) -> Path:
    """The directory that -o names, made where it is not there."""
    if not path:
        raise ValueError("-o must name a directory, got ''")
    try:
        os.makedirs(path, exist_ok=True)
    except FileExistsError:
        raise ValueError(f"-o must name a directory, {path} is a file") from None
    return Path(path)


def png(picture: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def write(files: Mapping[Path, bytes]) -> None:
    """Write all files beside their places first, then move them in: a file is there whole or not at all."""
    parts = {path: path.with_name(f".{path.name}.{os.getpid()}.part") for path in files}
    try:
        for path, data in files.items():
            parts[path].write_bytes(data)
        for path, part in parts.items():
            os.replace(part, path)
    finally:
        for part in parts.values():
            with contextlib.suppress(FileNotFoundError):
                part.unlink()


def ran_on(session: PoseSession | TopDownSession) -> str:
    device, decoder = ("GPU", "CUDA kernel") if session.device == "cuda" else ("CPU", "NumPy")
    return f"running on the {device} ({session.device_reason}); decoder: {decoder}"


def message(error: BaseException) -> str:
    """An error on one line, with the file that it is about."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def complain(text: str) -> None:
    print(f"posepost: {text}", file=sys.stderr)
