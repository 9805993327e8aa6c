"""The loops of each kernel in machine code for sm_90, counted: `python -m bench.loops [-o FILE] [--beside OLD]`.

A kernel's scan is its first innermost loop with loads from device memory. Of it stand here: instructions of one turn,
bytes that a thread loads in it, instructions per 16 bytes, and loads in flight, which are the loads before the first
instruction that needs one of them. Behind that the kernel's registers and bytes of code. Needs nvdisasm: CUDA's
toolkit or `pip install nvidia-cuda-nvdisasm`. A loop with branches has fewer instructions in most turns.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import NamedTuple

from posepost import _kernels

from .resources import compile_for, disassembled

ARCHITECTURE = 90


class Loop(NamedTuple):
    instructions: int
    loaded: int  # bytes
    in_flight: int

    @property
    def per_16_bytes(self) -> float:
        return 16 * self.instructions / self.loaded


class Instruction(NamedTuple):
    text: str
    operation: str  # LDG.E.128.CONSTANT
    registers: tuple[int, ...]  # as they stand: for a load its target, then its address


def instructions_of(listing: str, entry: str) -> tuple[list[Instruction], dict[str, int]]:
    """The kernel's instructions and where its labels stand."""
    found: list[Instruction] = []
    labels: dict[str, int] = {}
    inside = False
    for line in listing.splitlines():
        if line.startswith(".text."):
            inside = line.startswith(f".text.{entry}:")
        label = re.match(r"(\.L\w+):", line)
        if label:
            labels[label[1]] = len(found)
        code = re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(.*?);?\s*$", line)
        if inside and code:
            text = re.sub(r"^@!?U?P\w+\s+", "", code[1])
            registers = tuple(int(number) for number in re.findall(r"\bR(\d+)\b", text))
            found.append(Instruction(text, text.split()[0], registers))
    return found, labels


def bytes_of(load: Instruction) -> int:
    width = re.search(r"\.(128|64|[US]?16|[US]8)\b", load.operation)
    return {"128": 16, "64": 8, "16": 2, "8": 1}[width[1].lstrip("US")] if width else 4


def scan(listing: str, entry: str) -> Loop | None:
    """The first innermost loop with loads from device memory; None where there is none."""
    code, labels = instructions_of(listing, entry)
    loops = []
    for end, instruction in enumerate(code):
        back = re.search(r"BRA.*`\((\.L\w+)\)", instruction.text)
        if back and labels.get(back[1], end + 1) <= end:
            loops.append((labels[back[1]], end + 1))
    with_loads = [(a, b) for a, b in loops if any(i.operation.startswith("LDG") for i in code[a:b])]
    innermost = [
        (a, b) for a, b in with_loads if not any((a, b) != (c, d) and a <= c and d <= b for c, d in with_loads)
    ]
    if not innermost:
        return None
    body = code[slice(*min(innermost))]
    loads = [instruction for instruction in body if instruction.operation.startswith("LDG")]
    return Loop(len(body), sum(map(bytes_of, loads)), _in_flight(body))


def _in_flight(body: list[Instruction]) -> int:
    waiting: set[int] = set()
    loads = 0
    for instruction in body:
        if waiting & set(
            instruction.registers[1:] if instruction.operation.startswith("LDG") else instruction.registers
        ):
            break
        if instruction.operation.startswith("LDG"):
            loads += 1
            first = instruction.registers[0]
            waiting |= set(range(first, first + max(1, bytes_of(instruction) // 4)))
    return loads


def counted() -> dict[str, dict[str, float]]:
    rows: dict[str, dict[str, float]] = {}
    for variant in _kernels.VARIANTS:
        compiled = compile_for(variant, ARCHITECTURE)
        listing = disassembled(compiled.cubin)
        loop, code = scan(listing, variant.entry), instructions_of(listing, variant.entry)[0]
        rows[str(variant)] = {"registers": compiled.registers, "code": 16 * len(code)}
        if loop is not None:
            rows[str(variant)] |= {
                "instructions": loop.instructions,
                "loaded": loop.loaded,
                "per_16_bytes": round(loop.per_16_bytes, 1),
                "in_flight": loop.in_flight,
            }
    return rows


COLUMNS = ("instructions", "loaded", "per_16_bytes", "in_flight", "registers", "code")


def table(rows: dict[str, dict[str, float]], old: dict[str, dict[str, float]] | None = None) -> str:
    head = f"{'kernel':41}" + "".join(f"{name.replace('_', ' '):>{19 if old else 14}}" for name in COLUMNS)
    lines = [head]
    for name, row in rows.items():
        cells = []
        for column in COLUMNS:
            now, before = row.get(column, "-"), (old or {}).get(name, {}).get(column, "-")
            cells.append(f"{before} -> {now}" if old and before != now else str(now))
        lines.append(f"{name:41}" + "".join(f"{cell:>{19 if old else 14}}" for cell in cells))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", dest="output", metavar="FILE", type=Path, help="keep the counts as JSON")
    parser.add_argument("--beside", metavar="OLD", type=Path, help="counts that an earlier -o has kept")
    arguments = parser.parse_args()
    rows = counted()
    if arguments.output:
        arguments.output.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    old = json.loads(arguments.beside.read_text(encoding="utf-8")) if arguments.beside else None
    print(f"sm_{ARCHITECTURE}" + (": before -> now" if old else ""))
    print(table(rows, old))
    return 0


if __name__ == "__main__":
    sys.exit(main())
