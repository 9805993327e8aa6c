"""Sources of the kernels, their instantiations and the layout of their parameters. Nothing here touches a device."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np

ELEMENTS = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "uint8": "u8", "int8": "i8"}
"""Element type of a map -> its struct in kernels/argmax.cuh."""

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
OPTIONS = ("--std=c++17", "-fmad=false")
THREADS = 256
"""Threads of a block, as THREADS in the kernel sources."""


@dataclasses.dataclass(frozen=True, eq=False)  # by identity: its hash is part of every call
class Variant:
    """One instantiation of a kernel: source file, entry and the macros that specialise it; one object of each."""

    source: str
    entry: str
    defines: tuple[tuple[str, str], ...]

    @property
    def options(self) -> tuple[str, ...]:
        return tuple(f"-D{name}={value}" for name, value in self.defines)

    def __str__(self) -> str:
        return f"{self.entry}<{', '.join(value for _, value in self.defines)}>"


LAYOUTS = ("PLANAR", "INTERLEAVED", "STRIDED")


@functools.cache
def posenet(element: str, layout: str) -> Variant:
    return Variant("posenet.cu", "decode_posenet", (("ELEMENT", element), ("LAYOUT", layout)))


HEADS = {"ARGMAX": LAYOUTS, "SOFT": ("PLANAR", "STRIDED"), "BLURRED": ("STRIDED",)}
"""Kernels of heatmap.cu, and the layouts of each."""


@functools.cache
def heatmap(element: str, head: str, layout: str) -> Variant:
    return Variant("heatmap.cu", "decode_heatmap", (("ELEMENT", element), ("HEAD", head), ("LAYOUT", layout)))


MULTI_ENTRIES = ("find_roots", "walk_roots", "accept_poses")


@functools.cache
def posenet_multi(element: str, entry: str) -> Variant:
    return Variant("posenet_multi.cu", entry, (("ELEMENT", element),))


@functools.cache
def peaks(element: str) -> Variant:
    return Variant("peaks.cu", "find_peaks", (("ELEMENT", element),))


@functools.cache
def simcc(element: str, merged: bool) -> Variant:
    """merged: with the outputs on the mirrored image."""
    return Variant("simcc.cu", "decode_simcc", (("ELEMENT", element), ("MERGED", str(int(merged)))))


VARIANTS = (
    *(posenet(element, layout) for element, layout in itertools.product(ELEMENTS.values(), LAYOUTS)),
    *(posenet_multi(element, entry) for element, entry in itertools.product(ELEMENTS.values(), MULTI_ENTRIES)),
    *(peaks(element) for element in ELEMENTS.values()),
    *(heatmap(element, head, layout) for element in ELEMENTS.values() for head in HEADS for layout in HEADS[head]),
    *(simcc(element, merged) for element in ELEMENTS.values() for merged in (False, True)),
)
"""Every instantiation there is: what the compile tests and `posepost warmup` go through."""


def directory() -> Path:
    """Where the .cu files lie: in the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    for candidate in (package / "kernels", package.parent / "kernels"):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"posepost's kernels must be in {package} or beside it: the installation is incomplete")


@functools.cache
def source(name: str) -> str:
    """The source of a kernel file with its local includes pasted in.

    CuPy's disk cache sees the text it is given and not what that includes, so a changed header must change this text.
    """
    pasted: set[str] = set()

    def paste(name: str) -> str:
        pasted.add(name)
        lines = [f'#line 1 "{name}"']
        for number, line in enumerate((directory() / name).read_text(encoding="utf-8").splitlines(), start=1):
            include = re.match(r'#include "(\w+\.cuh)"', line)
            if include is None:
                lines.append(line)
            elif include[1] not in pasted:
                lines += [paste(include[1]), f'#line {number + 1} "{name}"']
        return "\n".join(lines)

    return paste(name) + "\n"


_C_TYPES = {"u8_t": np.uint8, "u16_t": np.uint16, "u32": np.uint32, "i64": np.int64, "float": np.float32}


@functools.cache
def parameters(name: str) -> np.dtype[Any]:
    """The kernel's `struct Params` as a NumPy dtype, read from the source so that it stands once."""
    body = re.search(r"struct Params \{(.*?)\n\};", source(name), re.S)
    if body is None:
        raise ValueError(f"{name} has no struct Params")
    fields: list[tuple[Any, ...]] = []
    for declaration in re.sub(r"//.*", "", body[1]).split(";"):
        if not declaration.strip():
            continue
        match = re.fullmatch(r"(?:const )?(\w+)(\*?) (.+)", declaration.strip())
        if match is None:
            raise ValueError(f"{name}: cannot read the field {declaration.strip()!r} of struct Params")
        c_type, pointer, names = match.groups()
        dtype = np.uint64 if pointer else _C_TYPES[c_type]
        for field in names.split(", "):
            array = re.fullmatch(r"(\w+)\[(\d+)\]", field)
            fields.append((array[1], dtype, (int(array[2]),)) if array else (field, dtype))
    return np.dtype(fields, align=True)


def least_key(least: float, dtype: str) -> int:
    """The key, as kernels/argmax.cuh makes it, of the smallest value of a type that is not below `least`."""
    if dtype == "uint8":
        return int(least) + 1
    if dtype == "int8":
        return int(least) + 129
    value = np.float32(least)
    if dtype == "float32":
        bits, sign = int(value.view(np.uint32).item()), 1 << 31
    elif dtype == "float16":
        with np.errstate(over="ignore"):
            half = np.float16(value)
            if np.float32(half) < value:
                half = np.nextafter(half, np.float16(np.inf))
        bits, sign = int(half.view(np.uint16).item()), 1 << 15
    else:  # bfloat16: the upper half, which for positive numbers may lie below
        whole = int(value.view(np.uint32).item())
        bits, sign = whole >> 16, 1 << 15
        bits += int(bool(value > 0) and whole & 0xFFFF != 0)
    return sign - (bits & (sign - 1)) if bits & sign else sign + bits


def key_below(limit: float | None) -> int:
    """The largest key of a float32 below `limit`; 0, which no score is at most, for None and NaN."""
    value = np.float32(np.nan if limit is None else limit)
    return 0 if np.isnan(value) else least_key(float(value), "float32") - 1
