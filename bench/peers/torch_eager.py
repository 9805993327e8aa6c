"""PyTorch, eager, in inference mode, on the tensors' device: max over the flattened maps (value and first index in one
kernel), one gather of both offsets, a table of the cells' pixels, sigmoid of the winner, one download of (x, y, score).

Tensors are the CuPy or NumPy arrays through DLPack, not copied. max(dim) is faster than argmax and gather. On the CPU
one thread and torch's default are both tried, and the faster is kept: on a busy machine threads wait for each other.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ..cases import Case
from ..optional import absent
from . import no_gpu

NAME = "PyTorch eager"
DEVICES = ("cuda", "cpu")
COMPLETE = True


def missing(device: str) -> str | None:
    command = "pip install torch==2.13.0"
    reason = absent("torch", command) or (no_gpu() if device == "cuda" else None)
    if reason or device == "cpu":
        return reason
    try:
        import torch

        if torch.cuda.is_available():
            return None
        return f"this torch ({torch.__version__}) finds no CUDA: pip uninstall -y torch; {command}"
    except Exception as error:  # a broken CUDA library raises anything
        return f"torch cannot be imported ({error}): {command}"


def prepare(case: Case, sets: list[tuple[Any, Any]], device: str) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    return fastest(callers(decoder(case, device), case, sets, device), len(sets))


def callers(decode: Callable, case: Case, sets: list, device: str) -> list[Callable]:
    """`call` of prepare around a decoder, on the CPU for each number of threads."""
    import torch

    def tensor(array: Any) -> torch.Tensor:
        if case.dtype == "bfloat16":  # by its bits: DLPack of NumPy knows no bfloat16
            return torch.from_dlpack(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_dlpack(array)

    tensors = [(tensor(heatmaps), tensor(offsets)) for heatmaps, offsets in sets]

    def call(i: int, threads: int = 0) -> tuple[np.ndarray, np.ndarray]:
        if threads:
            torch.set_num_threads(threads)  # 0.1 microseconds
        with torch.inference_mode():
            result = decode(*tensors[i]).cpu().numpy()
        return result[..., :2], result[..., 2]

    return [call] if device == "cuda" else [functools.partial(call, threads=n) for n in sorted({1, default_threads()})]


@functools.cache
def default_threads() -> int:
    import torch

    return torch.get_num_threads()  # before any call has changed it


def fastest(calls: list[Callable], sets: int) -> Callable:
    """The call with the smallest median of 20, after 5 that compile and record."""

    def seconds(call: Callable) -> float:
        times = []
        for i in range(25):
            start = time.perf_counter()
            call(i % sets)
            times.append(time.perf_counter() - start)
        return sorted(times[5:])[10]

    return min(calls, key=seconds) if len(calls) > 1 else calls[0]


def decoder(case: Case, device: str) -> Callable[[Any, Any], Any]:
    """A function of torch tensors that gives (B, K, 3): x, y, score."""
    import torch

    B, K, H, W = case.B, case.K, case.H, case.W
    y, x = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    grid = (torch.stack([y, x], dim=-1).reshape(H * W, 2) * float(case.output_stride)).to(device)
    quantization = case.quantization

    def decode(heatmaps: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        if case.layout == "NCHW":
            logits, cells = heatmaps.flatten(2).max(dim=2)
            moves = offsets.view(B, 2, K, H * W).gather(3, cells[:, None, :, None].expand(B, 2, K, 1)).squeeze(3)
        else:
            logits, cells = heatmaps.flatten(1, 2).max(dim=1)
            moves = offsets.view(B, H * W, 2, K).gather(1, cells[:, None, None, :].expand(B, 1, 2, K)).squeeze(1)
        logits, moves = logits.float(), moves.float()
        if quantization:
            scale, zero = quantization["heatmaps"]
            logits = (logits - zero) * scale
            scale, zero = quantization["offsets"]
            moves = (moves - zero) * scale
        points = grid[cells] + moves.mT
        return torch.stack([points[..., 1], points[..., 0], logits.sigmoid()], dim=-1)

    return decode
