"""JAX: one jitted function on the arrays' device, and one download of (x, y, score).

CuPy arrays come through DLPack, not copied. jnp.argmax gives the first largest cell.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from ..cases import Case
from ..optional import absent
from . import no_gpu, places

NAME = "JAX jit"
DEVICES = ("cuda", "cpu")
COMPLETE = True


def missing(device: str) -> str | None:
    if device == "cpu":
        return absent("jax", "pip install jax==0.10.2")
    command = 'pip install "jax[cuda13]==0.10.2"'
    reason = absent("jax", command) or no_gpu()
    if reason:
        return reason
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leave the GPU's memory to the others
    try:
        import jax

        jax.devices("cuda")
    except Exception as error:  # RuntimeError without a CUDA plugin; a broken CUDA library raises anything
        return f"this JAX has no CUDA ({error}): {command}"
    return None


def prepare(case: Case, sets: list[tuple[Any, Any]], device: str) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    import jax
    import jax.numpy as jnp

    B, K, cells_of_map = case.B, case.K, case.H * case.W
    grid = places(case).grid
    take = functools.partial(jnp.take_along_axis, mode="promise_in_bounds")

    def array(source: Any) -> jax.Array:
        if device == "cpu":
            return jax.device_put(source, jax.devices("cpu")[0])
        if case.dtype == "bfloat16":  # by its bits: DLPack of CuPy knows no bfloat16
            return jax.lax.bitcast_convert_type(jax.dlpack.from_dlpack(source.view(np.int16)), jnp.bfloat16)
        return jax.dlpack.from_dlpack(source)

    def values(gathered: jax.Array, name: str) -> jax.Array:
        scale, zero = (case.quantization or {}).get(name, (1, 0))
        return (gathered.astype(jnp.float32) - zero) * scale

    @jax.jit
    def decode(heatmaps: jax.Array, offsets: jax.Array) -> jax.Array:
        if case.layout == "NCHW":
            maps, fields = heatmaps.reshape(B, K, cells_of_map), offsets.reshape(B, 2, K, cells_of_map)
            cells = maps.argmax(axis=2)
            logits = take(maps, cells[:, :, None], 2)[:, :, 0]
            moves = take(fields, cells[:, None, :, None], 3)[..., 0]
        else:
            maps, fields = heatmaps.reshape(B, cells_of_map, K), offsets.reshape(B, cells_of_map, 2, K)
            cells = maps.argmax(axis=1)
            logits = take(maps, cells[:, None, :], 1)[:, 0]
            moves = take(fields, cells[:, None, None, :], 1)[:, 0]
        dy, dx = jnp.moveaxis(values(moves, "offsets"), 1, 0)
        x, y = jnp.moveaxis(jnp.asarray(grid)[cells], 2, 0)
        scores = jax.nn.sigmoid(values(logits, "heatmaps"))
        return jnp.stack([x + dx, y + dy, scores], axis=-1)

    arrays = [(array(heatmaps), array(offsets)) for heatmaps, offsets in sets]

    def call(i: int) -> tuple[np.ndarray, np.ndarray]:
        result = np.asarray(decode(*arrays[i]))
        return result[..., :2], result[..., 2]

    return call
