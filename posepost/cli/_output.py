"""What a command leaves behind: files, whole or not at all; what it says of a session and of an error."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posepost._check import one_line
from posepost.ort import PoseSession, TopDownSession

QUOTE = '"'
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


ARGUMENTS = (
    "activation|box_format|flip_pairs|heads|input_channels|inputs|keypoints|layout|mean|output_stride|padding|people|"
    "preset|score|size|skeleton|std"
)
"""Arguments of sessions that options of the command give."""
OTHER_NAMES = {"output_stride": "stride", "inputs": "input", "input_channels": "bgr"}


def message(error: BaseException) -> str:
    """An error on one line, in the words of the command, with the file that it is about."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename or repr('')}: {error.strerror}"
    return in_options(one_line(error))


def in_options(text: str) -> str:
    """What an error says of arguments, said of options: heads={"heatmaps": "a"} is --heads heatmaps=a.

    >>> in_options('give activation="sigmoid" for logits or activation=None for scores')
    'give --activation sigmoid for logits or --activation none for scores'
    """

    def option(argument: str) -> str:
        return f"--{OTHER_NAMES.get(argument, argument).replace('_', '-')}"

    def given(match: re.Match[str]) -> str:
        value = match[2]
        if value.startswith("{"):  # a dict of strings
            value = ",".join(f"{key}={one}" for key, one in re.findall(r'"([^"]*)": "?([^",}]*)', value))
        if match[1] == "size":
            value = re.sub(r"^\((\d+), (\d+)\)$", r"\1x\2", value)
        return f"{option(match[1])} {'none' if value == 'None' else value.strip(QUOTE)}".rstrip()

    text = re.sub(r"(^|: )mean and std must ", r"\1--mean and --std must ", text)
    about = rf'(^|(?<!"): )({ARGUMENTS})(?= must )'  # not behind keypoints="FILE": which has flip_pairs of its own
    text = re.sub(about, lambda match: match[1] + option(match[2]), text)
    text = re.sub(rf"""(?<![^\s(])({ARGUMENTS})=(\{{[^{{}}]*\}}|"[^"]*"|\([^()]*\)|[\w.]*)""", given, text)
    return re.sub(r"(?<![^\s])(heads|inputs)\['([^']+)'\]", lambda match: f"{option(match[1])} {match[2]}", text)


def complain(text: str) -> None:
    print(f"posepost: {text}", file=sys.stderr)
