"""How things are timed: interleaved, garbage collector off, inputs changing from call to call, percentiles.

On the host a clock stands around each call. On a device, `device_times` replays a CUDA graph of at least 200 launches
over input sets that fit the L2 cache (warm) or are rotated past it (cold), so that launch costs overlap as in a stream.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

LAUNCHES = 200  # at least, in one graph
REPLAYS = 15


@contextmanager
def quiet() -> Iterator[None]:
    """No garbage collection inside."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def interleaved(
    calls: dict[str, Callable[[int], Any]],
    sets: int,
    *,
    seconds: float,
    failed: Callable[[str, Exception], None],
    least: int = 5,
    most: int = 10_000,
    before: dict[str, Callable[[int], Any]] | None = None,
) -> dict[str, list[float]]:
    """Seconds of each call by name; call(i) works on input set i. before[name](i) is called first, outside the clock. A
    call that raises goes to `failed` and is left out.

    The calls take turns in random order: threads of one that still spin slow down whatever comes next, so no call may
    always follow the same other one.
    """
    order = random.Random(0)
    ready = {name: (before or {}).get(name, lambda i: None) for name in calls}
    times: dict[str, list[float]] = {name: [] for name in calls}
    spent = dict.fromkeys(calls, 0.0)
    with quiet():
        for turn in range(-2, most):  # two for warming up
            waiting = [name for name in times if turn < least or spent[name] < seconds]
            if not waiting:
                break
            order.shuffle(waiting)
            for name in waiting:
                ready[name](turn % sets)
                start = time.perf_counter()
                try:
                    calls[name](turn % sets)
                except Exception as error:
                    del times[name]
                    failed(name, error)
                    continue
                elapsed = time.perf_counter() - start
                if turn >= 0:
                    times[name].append(elapsed)
                    spent[name] += elapsed
    return times


def paced(call: Callable[[int], Any], sets: int, *, hertz: float, count: int) -> list[float]:
    """Seconds of each call when frames come at a camera's pace and the machine idles in between."""
    times = []
    with quiet():
        call(0)
        due = time.perf_counter()
        for i in range(count):
            due += 1 / hertz
            time.sleep(max(0.0, due - time.perf_counter()))
            start = time.perf_counter()
            call(i % sets)
            times.append(time.perf_counter() - start)
    return times


def device_times(
    enqueue: Callable[[int], None], sets: int, before_replays: Callable[[], None] = lambda: None
) -> list[float]:
    """Seconds of device time of one enqueue(i), from replays of a graph that goes round all sets at least once."""
    import cupy

    count = max(LAUNCHES, sets)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        for i in range(sets):
            enqueue(i)  # compiles, allocates
        stream.synchronize()
        stream.begin_capture()
        for i in range(count):
            enqueue(i % sets)
        graph = stream.end_capture()
        before_replays()
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        times = []
        for replay in range(REPLAYS + 2):
            begin.record(stream)
            graph.launch(stream)
            end.record(stream)
            end.synchronize()
            if replay >= 2:
                times.append(cupy.cuda.get_elapsed_time(begin, end) / 1000 / count)
    return times


def percentiles(times: list[float]) -> dict[str, float]:
    return {f"p{q}": float(np.percentile(times, q)) for q in (20, 50, 80, 90, 99)}
