"""The CPU executor proves itself: each report comes for a kernel that deserves it, and not for its correct control.

The probes are small kernels with one parameter struct (PRELUDE); their first line is line 1 of "probe.cu".  Those that
only a sanitizer can judge run in a process of their own, in which `sanitized_main` is called.
"""

import ctypes
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bench.cuda_cpu import executor
from bench.cuda_cpu.executor import KernelFault, build, run_sanitized

ROOT = Path(__file__).resolve().parents[2]
ABLE, REASON = executor.available()
pytestmark = pytest.mark.skipif(not ABLE, reason=REASON)

PRELUDE = """
typedef unsigned int u32; typedef unsigned long long u64;
#ifndef SHARED
#define SHARED(Type, name) __shared__ Type name
#endif
struct Params { const u32* in; u32* out; u32* ticket; u64* best; u32 n; };
struct Cells { u32 cell[256]; };
#define PROBE extern "C" __global__ void __launch_bounds__(256) probe(const __grid_constant__ Params p)
#line 1 "probe.cu"
"""


class Params(ctypes.Structure):
    _fields_ = [
        ("in_", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("ticket", ctypes.c_void_p),
        ("best", ctypes.c_void_p),
        ("n", ctypes.c_uint),
    ]


class Probe:
    """A probe kernel, its buffers and its launch."""

    def __init__(self, body, defines=(), sanitize="", words=2048):
        self.kernel = build(PRELUDE + body, "probe", tuple(defines), sanitize=sanitize)
        self.words = np.arange(words + 16, dtype=np.uint32)
        start = -self.words.ctypes.data % 32 // 4
        self.input = self.words[start : start + words]  # starts a 32-byte sector
        self.input[:] = np.arange(words)
        self.out = np.zeros(words, np.uint32)
        self.ticket = np.zeros(8, np.uint32)
        self.best = np.zeros(8, np.uint64)

    def watch_all(self, count=False):
        counts = self.kernel.watch(self.input.ctypes.data, self.input.nbytes, count=count)
        for buffer in (self.ticket, self.best, self.out):
            self.kernel.watch(buffer.ctypes.data, buffer.nbytes)
        return counts

    def __call__(self, grid=1, block=32, n=0):
        self.out[:] = 0
        address = [a.ctypes.data for a in (self.input, self.out, self.ticket, self.best)]
        self.kernel.launch(grid, block, bytes(Params(*address, n)))
        return self.out


TICKET = """PROBE {{
    {publish}
    {before}
    if (threadIdx.x == 0 && atomicInc(p.ticket, gridDim.x - 1) == gridDim.x - 1) {{
        {after}
        {collect}
    }}
}}"""
MAXIMUM = {"publish": "atomicMax(p.best, 10ull + blockIdx.x);", "collect": "p.out[0] = (u32)atomicExch(p.best, 0ull);"}
PARTIALS = {
    "publish": "if (threadIdx.x == 0) p.out[1 + blockIdx.x] = 10 + blockIdx.x;",
    "collect": "u32 m = 0; for (u32 b = 0; b < gridDim.x; ++b) m = max(m, p.out[1 + b]); p.out[0] = m;",
}
FENCE = "__threadfence();"

# name of the fault: (grid and block, faulty kernel, regular expression of the report, correct kernel)
FAULTS = {
    "divergent collective": (
        (1, 32),
        "PROBE { u32 t = threadIdx.x, v;\n if (t < 16) v = __shfl_xor_sync(~0u, t, 1);\n"
        " else v = __shfl_xor_sync(~0u, t, 1);\n p.out[t] = v; }",
        r"divergent warp collective: no thread can go on\n"
        r"  block \(0,0,0\) threads 0-15 wait in __shfl_xor_sync mask 0xffffffff at probe.cu:2\n"
        r"  block \(0,0,0\) threads 16-31 wait in __shfl_xor_sync mask 0xffffffff at probe.cu:3",
        "PROBE { u32 t = threadIdx.x, v; if (t < 16) v = __shfl_xor_sync(0xffffu, t, 1);\n"
        " else v = __shfl_xor_sync(0xffff0000u, t, 1);\n p.out[t] = v; }",
    ),
    "mismatched masks": (
        (1, 32),
        "PROBE { u32 t = threadIdx.x;\n p.out[t] = __ballot_sync(t < 16 ? ~0u : 0xfffffff0u, 1); }",
        r"mismatched warp collective: no thread can go on\n.* threads 0-15 wait in __ballot_sync mask 0xffffffff at "
        r"probe.cu:2\n.* threads 16-31 wait in __ballot_sync mask 0xfffffff0 at probe.cu:2",
        "PROBE { u32 t = threadIdx.x;\n p.out[t] = __ballot_sync(t < 16 ? 0xffffu : 0xffff0000u, 1); }",
    ),
    "different collectives": (
        (1, 32),
        "PROBE { u32 t = threadIdx.x;\n p.out[t] = t < 16 ? __ballot_sync(~0u, 1) : __reduce_max_sync(~0u, t); }",
        r"mismatched warp collective: no thread can go on\n.*0-15 wait in __ballot_sync.*\n"
        r".*16-31 wait in __reduce_max_sync",
        "PROBE { u32 t = threadIdx.x;\n"
        " p.out[t] = t < 16 ? __ballot_sync(0xffffu, 1) : __reduce_max_sync(~0xffffu, t); }",
    ),
    "divergent barrier": (
        ((3, 2), 64),
        "PROBE {\n if (threadIdx.x < 40) __syncthreads();\n else __syncthreads();\n p.out[threadIdx.x] = 1; }",
        r"divergent __syncthreads \(others wait at probe.cu:2\): block \(0,0,0\) thread \(40,0,0\) at probe.cu:3",
        "PROBE {\n if (p.n < 40) __syncthreads();\n else __syncthreads();\n p.out[threadIdx.x] = 1; }",
    ),
    "barrier in one branch": (
        (1, 64),
        "PROBE { u32 t = threadIdx.x;\n if (t < 32 && t != 5) __syncwarp();\n __syncthreads(); }",
        r"deadlock: no thread can go on\n"
        r"  block \(0,0,0\) threads 0-4 wait in __syncwarp mask 0xffffffff at probe.cu:2\n"
        r"  block \(0,0,0\) threads 5-5 wait in __syncthreads at probe.cu:3\n"
        r"  block \(0,0,0\) threads 6-31 wait in __syncwarp mask 0xffffffff at probe.cu:2\n"
        r"  block \(0,0,0\) threads 32-63 wait in __syncthreads at probe.cu:3$",
        "PROBE { u32 t = threadIdx.x;\n if (t == 5) return;\n __syncwarp();\n __syncthreads(); p.out[t] = t; }",
    ),
    "shuffle from a lane outside the mask": (
        (1, 32),
        "PROBE { u32 t = threadIdx.x; if (t < 8)\n p.out[t] = __shfl_down_sync(0xffu, t, 4); }",
        r"__shfl_down_sync from absent lane 8: block \(0,0,0\) thread \(4,0,0\) at probe.cu:2",
        "PROBE { u32 t = threadIdx.x; if (t < 8)\n p.out[t] = __shfl_down_sync(0xffu, t, 4, 8); }",
    ),
    "shuffle from a lane that has ended": (
        (1, 32),
        "PROBE { u32 t = threadIdx.x; if (t == 3) return;\n p.out[t] = __shfl_sync(~0u, t, 3); }",
        r"__shfl_sync from absent lane 3: .* at probe.cu:2",
        "PROBE { u32 t = threadIdx.x; if (t == 3) return;\n p.out[t] = __shfl_sync(~0u, t, 4); }",
    ),
    "shuffle from beyond the block": (
        (1, 40),
        "PROBE { u32 t = threadIdx.x;\n p.out[t] = __shfl_xor_sync(~0u, t, 8); }",
        r"__shfl_xor_sync from absent lane 8: block \(0,0,0\) thread \(32,0,0\) at probe.cu:2",
        "PROBE { u32 t = threadIdx.x;\n p.out[t] = __shfl_xor_sync(~0u, t, 4); }",
    ),
    "lane not in its mask": (
        (1, 32),
        "PROBE { u32 t = threadIdx.x;\n p.out[t] = __any_sync(0xffffu, t); }",
        r"lane not in its own mask 0x0000ffff of __any_sync: block \(0,0,0\) thread \(16,0,0\) at probe.cu:2",
        "PROBE { u32 t = threadIdx.x;\n if (t < 16) p.out[t] = __any_sync(0xffffu, t); }",
    ),
    "shuffle width": (
        (1, 32),
        "PROBE { u32 t = threadIdx.x;\n p.out[t] = __shfl_sync(~0u, t, 1, 12); }",
        r"__shfl_sync width 12 is no power of two up to 32: .* at probe.cu:2",
        "PROBE { u32 t = threadIdx.x;\n p.out[t] = __shfl_sync(~0u, t, 1, 16); }",
    ),
    "misaligned vector load": (
        (1, 32),
        "PROBE { u32 t = threadIdx.x;\n p.out[t] = __ldg((const uint4*)(p.in + 4 * t + (t == 7))).x; }",
        r"misaligned __ldg of 16 bytes: block \(0,0,0\) thread \(7,0,0\) at probe.cu:2",
        "PROBE { u32 t = threadIdx.x;\n p.out[t] = __ldg((const uint4*)(p.in + 4 * t)).x; }",
    ),
    "load past the end": (
        (1, 32),
        "PROBE { u32 t = threadIdx.x;\n p.out[t] = __ldg(p.in + 2017 + t); }",
        r"__ldg of 4 bytes outside every registered buffer: block \(0,0,0\) thread \(31,0,0\) at probe.cu:2",
        "PROBE { u32 t = threadIdx.x;\n p.out[t] = __ldg(p.in + 2016 + t); }",
    ),
    "load over the end": (
        (1, 1),
        "PROBE {\n p.out[0] = __ldg((const uint2*)(p.ticket + 6 + 2)).x; }",
        r"__ldg of 8 bytes outside every registered buffer: .* at probe.cu:2",
        "PROBE {\n p.out[0] = __ldg((const uint2*)(p.ticket + 6)).x; }",
    ),
    "atomic past the end": (
        (1, 32),
        "PROBE {\n atomicAdd(p.ticket + 8, 1); }",
        r"atomic of 4 bytes outside every registered buffer: block \(0,0,0\) thread \(0,0,0\) at probe.cu:2",
        "PROBE { SHARED(Cells, s);\n atomicAdd(p.ticket + 7, 1); atomicAdd(&s.cell[0], 1); }",
    ),
    "__ldg of shared memory": (
        (1, 32),
        "PROBE { SHARED(Cells, s); s.cell[0] = 1;\n p.out[0] = __ldg(&s.cell[0]); }",
        r"__ldg of shared memory: .* at probe.cu:2",
        "PROBE { SHARED(Cells, s); s.cell[0] = 1;\n p.out[0] = s.cell[0]; }",
    ),
    "too much shared memory": (
        (1, 32),
        "struct Big { char bytes[48 * 1024 - 1024]; };\n"
        "PROBE { SHARED(Cells, s); SHARED(Big, big);\n SHARED(u32, more); s.cell[0] = big.bytes[0] = more = 1; }",
        r"static shared memory over 48 KiB: 49156 bytes: .* at probe.cu:3",
        "struct Big { char bytes[48 * 1024 - 1024]; };\n"
        "PROBE { SHARED(Cells, s); SHARED(Big, big);\n s.cell[0] = big.bytes[0] = 1; }",
    ),
    "ticket, no fence at all": (
        (3, 32),
        TICKET.format(**MAXIMUM, before="", after=""),
        r"ticket without a __threadfence after earlier atomics: block \(0,0,0\) thread \(0,0,0\) at probe.cu:4",
        TICKET.format(**MAXIMUM, before=FENCE, after=FENCE),
    ),
    "ticket, plain partials, no fence": (
        (3, 32),
        TICKET.format(**PARTIALS, before="__syncthreads();", after=FENCE),
        r"ticket without a __threadfence before it: block \(0,0,0\) thread \(0,0,0\) at probe.cu:4",
        TICKET.format(**PARTIALS, before=FENCE + "__syncthreads();", after=FENCE),
    ),
    "ticket, the other threads' atomics not fenced": (
        (3, 64),
        TICKET.format(
            publish=MAXIMUM["publish"].replace("at", "if (threadIdx.x) at", 1),
            collect=MAXIMUM["collect"],
            before=FENCE[:0] + "if (threadIdx.x == 0) " + FENCE + " __syncthreads();",
            after=FENCE,
        ),
        r"ticket without a __threadfence after earlier atomics: .* at probe.cu:4",
        TICKET.format(
            publish=MAXIMUM["publish"].replace("at", "if (threadIdx.x) at", 1),
            collect=MAXIMUM["collect"],
            before="__syncthreads(); if (threadIdx.x == 0) " + FENCE,
            after=FENCE,
        ),
    ),
    "ticket, no fence after": (
        (3, 32),
        TICKET.format(**MAXIMUM, before=FENCE, after=""),
        r"atomic after the last ticket without a __threadfence between: block \(2,0,0\) thread \(0,0,0\) at probe.cu:6",
        TICKET.format(**MAXIMUM, before=FENCE, after="atomicExch(p.ticket, 0u); " + FENCE),
    ),
    "ticket, no fence after, told through shared memory": (
        (3, 64),
        "PROBE { SHARED(u32, last); atomicMax(p.best, 5ull); __threadfence(); __syncthreads();\n"
        " if (threadIdx.x == 0) last = atomicInc(p.ticket, gridDim.x - 1) == gridDim.x - 1;\n __syncthreads();\n"
        " if (last && threadIdx.x == 40) atomicExch(p.best, 0ull); }",
        r"atomic after the last ticket without a __threadfence between: block \(2,0,0\) thread \(40,0,0\) at "
        r"probe.cu:4",
        "PROBE { SHARED(u32, last); atomicMax(p.best, 5ull); __threadfence(); __syncthreads();\n"
        " if (threadIdx.x == 0) { last = atomicInc(p.ticket, gridDim.x - 1) == gridDim.x - 1; __threadfence(); }\n"
        " __syncthreads();\n if (last && threadIdx.x == 40) atomicExch(p.best, 0ull); }",
    ),
    "trap": (
        (2, 32),
        "PROBE {\n if (p.n == 0 && blockIdx.x == 1) __trap();\n }",
        r"__trap: block \(1,0,0\) thread \(0,0,0\) at probe.cu:2",
        "PROBE {\n if (p.n != 0) __trap();\n }",
    ),
    "waits for a thread that cannot run": (
        (1, 32),
        "PROBE {\n while (threadIdx.x == 0 && atomicAdd(p.ticket, 0) == 0) {}\n"
        " __syncwarp(); atomicAdd(p.ticket, 1); }",
        r"livelock: no thread can go on\n  block \(0,0,0\) threads 0-0 spin at probe.cu:2\n"
        r"  block \(0,0,0\) threads 1-31 wait in __syncwarp mask 0xffffffff at probe.cu:3",
        "PROBE {\n while (threadIdx.x == 0 && atomicAdd(p.ticket, 0) == 0) {}\n"
        " atomicAdd(p.ticket, 1); __syncwarp(); }",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_reported(name):
    shape, faulty, report, _ = FAULTS[name]
    probe = Probe(faulty)
    probe.watch_all()
    with pytest.raises(KernelFault) as caught:
        probe(*shape)
    assert re.match(report, str(caught.value)), str(caught.value)


@pytest.mark.parametrize(
    "schedule",
    [
        {},
        {"order": "reverse", "resident": 2},
        {"order": "random", "seed": 5, "resident": 3, "chaos": 1},
        {"order": "random", "seed": 6, "resident": 3, "chaos": 2},
    ],
)
@pytest.mark.parametrize("name", FAULTS)
def test_control_is_clean(name, schedule):
    shape, _, _, control = FAULTS[name]
    probe = Probe(control)
    probe.watch_all()
    probe.kernel.schedule(**schedule)
    probe(*shape)


# Correct kernels that a careless rule would blame.
CLEAN = {
    "the last thread to come ends instead of shuffling": (
        (1, 32),
        "PROBE { u32 t = threadIdx.x; if (t == 31 || t == 0) return; p.out[t] = __shfl_sync(~0u, t, 5); }",
    ),
    "the last thread to come ends instead of __syncthreads": (
        (2, 64),
        "PROBE { u32 t = threadIdx.x; if (t == 63 || t == 0) return; __syncthreads(); p.out[t] = t; }",
    ),
    "two tickets after one another": (
        (3, 64),
        """PROBE { u32 t = threadIdx.x;
        for (u32 row = 0; row < 2; ++row) {
            if (t == 40) atomicMax(p.best + row, 5ull);
            __syncthreads();
            if (t == 0) { __threadfence(); atomicInc(p.ticket + row, gridDim.x - 1); __threadfence(); }
        }
        __syncthreads();
        if (t == 0) atomicInc(p.ticket + 2, gridDim.x); }""",
    ),
    "only the other threads publish and fence": (
        (3, 64),
        """PROBE { u32 t = threadIdx.x;
        if (t) { p.out[64 * blockIdx.x + t] = t; __threadfence(); }
        __syncthreads();
        if (t == 0) atomicInc(p.ticket, gridDim.x - 1); }""",
    ),
    "a block that does not draw the last ticket goes on": (
        (3, 32),
        """PROBE { if (threadIdx.x) return;
        atomicMax(p.best, 5ull);
        __threadfence();
        if (atomicInc(p.ticket, gridDim.x - 1) != gridDim.x - 1) atomicAdd(p.ticket + 1, 1); }""",
    ),
    "atomicInc in shared memory is no ticket": (
        (3, 32),
        """PROBE { SHARED(u32, turn); if (threadIdx.x == 0) turn = 0;
        __syncthreads();
        atomicInc(&turn, 7);
        atomicAdd(p.ticket, 1); }""",
    ),
}


@pytest.mark.parametrize("name", CLEAN)
def test_correct_kernel_is_clean(name):
    shape, body = CLEAN[name]
    probe = Probe(body)
    probe.watch_all()
    for order in executor.ORDERS:
        for chaos in (0, 1, 2):
            probe.kernel.schedule(order, seed=chaos + 1, resident=2, chaos=chaos)
            probe.ticket[:] = 0
            probe(*shape)


def test_access_over_the_end_of_a_buffer():
    probe = Probe("PROBE { p.out[0] = __ldg(p.in + p.n); }")
    probe.kernel.watch(probe.input.ctypes.data, 10)
    assert probe(1, 1, 1)[0] == 1
    with pytest.raises(KernelFault, match="__ldg of 4 bytes outside every registered buffer"):
        probe(1, 1, 2)  # bytes 8 to 12 of 10


def test_faulty_launch_leaves_the_next_one_clean():
    probe = Probe("PROBE { __syncthreads(); if (p.n == threadIdx.x) __trap(); p.out[threadIdx.x] = __popc(~0u); }")
    for _ in range(3):
        with pytest.raises(KernelFault, match="__trap"):
            probe(4, 64, n=63)
        assert (probe(1, 64, n=64)[:64] == 32).all()


@pytest.mark.parametrize(
    ("grid", "block", "report"),
    [
        (1, 257, r"block over the kernel's __launch_bounds__\(256\): grid \(1,1,1\) block \(257,1,1\)"),
        (1, (16, 17), r"block over the kernel's __launch_bounds__\(256\)"),
        (1, 1025, "block over 1024 threads"),
        (1, (1, 1, 65), "block over 1024 threads or"),
        (0, 32, "a zero dimension"),
        ((1, 0), 32, "a zero dimension"),
        (1, 0, "a zero dimension"),
        ((1, 65536), 32, "grid over"),
        (2**31, 32, "grid over"),
    ],
)
def test_impossible_launch(grid, block, report):
    with pytest.raises(KernelFault, match="invalid launch: " + report):
        Probe("PROBE { p.out[0] = 1; }")(grid, block)


def test_launch_bounds_may_be_an_expression_and_are_optional():
    bounded = "#define THREADS (2 * 32)\n"
    bounded += 'extern "C" __global__ void\n__launch_bounds__(THREADS, 2)\nNAME(const Params p) {}'
    assert Probe(bounded.replace("NAME", "probe"))(1, 64) is not None
    for defines, text in (((), bounded.replace("NAME", "probe")), (("-DNAME=probe",), bounded)):
        with pytest.raises(KernelFault, match=r"__launch_bounds__\(64\)"):
            Probe(text, defines)(1, 65)
    unbounded = build('struct Params { int n; }; extern "C" __global__ void probe(const Params p) {}', "probe")
    unbounded.launch(1, 1024, bytes(4))


def test_blocks_start_lazily_in_a_grid_of_any_size():
    probe = Probe("PROBE { p.out[0] = blockIdx.x; p.out[1] = blockIdx.y; __trap(); }")
    for order in executor.ORDERS:
        probe.kernel.schedule(order, resident=4)
        with pytest.raises(KernelFault, match="__trap"):
            probe((2**31 - 1, 65535, 65535), 32)
        if order == "reverse":
            assert tuple(probe.out[:2]) == (2**31 - 2, 65534)


# ---- results --------------------------------------------------------------------------------------------------------
SHUFFLES = """PROBE {
    const u32 t = threadIdx.x, size = blockDim.x, v = p.in[t] * 2654435761u;
    u32* out = p.out + t;
    out[0] = __shfl_sync(~0u, v, p.n, WIDTH); out += size;
    out[0] = __shfl_xor_sync(~0u, v, p.n, WIDTH); out += size;
    out[0] = __shfl_up_sync(~0u, v, p.n, WIDTH); out += size;
    out[0] = __shfl_down_sync(~0u, v, p.n, WIDTH);
}"""


@pytest.mark.parametrize("width", [1, 2, 4, 8, 16, 32])
def test_shuffles(width):
    probe = Probe(SHUFFLES, (f"-DWIDTH={width}",))
    value = probe.input[:64] * np.uint32(2654435761)
    lane = np.arange(64) % 32
    warp, first = np.arange(64) - lane, lane // width * width
    for n in (0, 1, 3, 7, 16, 31, 40):
        end = first + width
        sources = {
            "idx": first + n % width,
            "xor": np.where((lane ^ n) < end, lane ^ n, lane),
            "up": np.where(lane - n >= first, lane - n, lane),
            "down": np.where(lane + n < end, lane + n, lane),
        }
        for order in executor.ORDERS:
            probe.kernel.schedule(order)
            got = probe(1, 64, n)[:256].reshape(4, 64)
            for (kind, source), row in zip(sources.items(), got, strict=True):
                np.testing.assert_array_equal(row, value[warp + source], err_msg=f"{kind} {n} {order}")


VOTES = """PROBE {
    const u32 t = threadIdx.x, size = blockDim.x, lane = t % 32, mask = p.n >> lane & 1 ? p.n : ~p.n;
    const u32 v = p.in[t] * 2654435761u >> 28;
    u32* out = p.out + t;
    out[0 * size] = __ballot_sync(mask, v & 1);
    out[1 * size] = __any_sync(mask, v > 13);
    out[2 * size] = __all_sync(mask, v < 14);
    out[3 * size] = __reduce_max_sync(mask, v);
    out[4 * size] = __reduce_min_sync(mask, v);
    out[5 * size] = __reduce_add_sync(mask, v);
    out[6 * size] = __reduce_or_sync(mask, v);
    out[7 * size] = __reduce_and_sync(mask, v);
    out[8 * size] = __match_any_sync(mask, v);
    out[9 * size] = __activemask();
    __syncwarp(mask);
}"""


@pytest.mark.parametrize("block", [1, 31, 32, 33, 70, 128])
def test_votes_and_reductions_by_mask(block):
    probe = Probe(VOTES)
    value = probe.input[:block] * np.uint32(2654435761) >> 28
    for mask in (0xFFFFFFFF, 0x0000FFFF, 0x80000001, 0x55555555, 0x00000100):
        expected = np.zeros((10, block), np.uint32)
        for t in range(block):
            side = mask >> t % 32 & 1
            group = [u for u in range(t // 32 * 32, min(block, t // 32 * 32 + 32)) if mask >> u % 32 & 1 == side]
            v = value[group]
            bits = lambda chosen, group=group: sum(1 << u % 32 for u, c in zip(group, chosen, strict=True) if c)  # noqa: E731
            expected[:, t] = (
                bits(v & 1),
                (v > 13).any(),
                (v < 14).all(),
                v.max(),
                v.min(),
                v.sum(),
                np.bitwise_or.reduce(v),
                np.bitwise_and.reduce(v),
                bits(v == value[t]),
                1 << t % 32,
            )
        for order in executor.ORDERS:
            probe.kernel.schedule(order, seed=mask & 0xFF)
            np.testing.assert_array_equal(probe(1, block, mask)[: 10 * block].reshape(10, block), expected)


def test_collectives_in_a_loop_keep_step():
    probe = Probe("""PROBE { u32 v = p.in[threadIdx.x];
        for (u32 i = 0; i < p.n; ++i)
            for (u32 d = 16; d; d /= 2) v = v * 3 + __shfl_xor_sync(~0u, v, d);
        p.out[threadIdx.x] = v; }""")
    v = probe.input[:64].copy()
    for _ in range(7):
        for d in (16, 8, 4, 2, 1):
            v = v * np.uint32(3) + v[np.arange(64) ^ d]
    for order in executor.ORDERS:
        probe.kernel.schedule(order)
        np.testing.assert_array_equal(probe(1, 64, 7)[:64], v)


def test_shuffles_carry_eight_bytes_and_floats():
    out = Probe("""PROBE { const u32 t = threadIdx.x;
        const u64 wide = __shfl_xor_sync(~0u, (u64)t << 32 | 7, 1);
        const float real = __shfl_xor_sync(~0u, -1.5f * t, 1);
        p.out[2 * t] = (u32)(wide >> 32) + (u32)wide; p.out[2 * t + 1] = __float_as_uint(real); }""")()
    other = np.arange(32) ^ 1
    np.testing.assert_array_equal(out[:64:2], other + 7)
    np.testing.assert_array_equal(out[1:64:2].view(np.float32), -1.5 * other)


def test_indices_and_warps_of_three_dimensions():
    probe = Probe("""PROBE {
        const u32 t = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
        const u32 b = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
        u32* out = p.out + 2 * (b * blockDim.x * blockDim.y * blockDim.z + t);
        out[0] += __reduce_max_sync(~0u, t) + 1;
        out[1] = threadIdx.x + 10 * threadIdx.y + 100 * threadIdx.z +
                 1000 * (blockIdx.x + 10 * blockIdx.y + 100 * blockIdx.z); }""")
    warps_last = np.array([min(t // 32 * 32 + 31, 69) for t in range(70)])
    z, y, x = np.indices((2, 7, 5)).reshape(3, 70)
    bz, by, bx = np.indices((2, 3, 2)).reshape(3, 12, 1)
    for order in executor.ORDERS:
        probe.kernel.schedule(order, resident=5)
        got = probe((2, 3, 2), (5, 7, 2))[: 2 * 12 * 70].reshape(12, 70, 2)
        np.testing.assert_array_equal(got[..., 0], np.broadcast_to(warps_last + 1, (12, 70)))
        np.testing.assert_array_equal(got[..., 1], x + 10 * y + 100 * z + 1000 * (bx + 10 * by + 100 * bz))


def test_shared_memory_is_poisoned_for_each_block_and_its_own():
    probe = Probe("""PROBE { SHARED(Cells, a); SHARED(Cells, b); const u32 t = threadIdx.x;
        p.out[128 * blockIdx.x + t] = a.cell[t];
        a.cell[t] = 1000 + blockIdx.x; b.cell[t] = 7;
        __syncthreads();
        p.out[128 * blockIdx.x + 64 + t] = a.cell[63 - t]; }""")
    for resident in (1, 3):
        probe.kernel.schedule(resident=resident)
        got = probe(6, 64)[: 6 * 128].reshape(6, 2, 64)
        assert (got[:, 0] == 0xA5A5A5A5).all()
        assert (got[:, 1] == 1000 + np.arange(6)[:, None]).all()


ARITHMETIC = """PROBE {
    u32* out = p.out; const float* f = (const float*)p.in; const u32 n = p.n;
    auto put = [&](u32 v) { *out++ = v; };
    for (u32 i = 0; i < n; ++i) {
        put(__float2int_rn(f[i])); put(__float2int_rd(f[i])); put(__float2int_ru(f[i])); put(__float2int_rz(f[i]));
    }
    put(__clz(1)); put(__clz(0)); put(__clzll(1)); put(__ffs(0)); put(__ffs(8)); put(__ffsll(1ll << 40));
    put(__popc(0xf0f0u)); put(__popcll(~0ull)); put(__brev(1u)); put(__byte_perm(0x03020100u, 0x07060504u, 0x7531u));
    put(__umulhi(1u << 31, 6u)); put(max(-1, 2)); put(max(-1, 2u)); put(min(3ull, 2ull));
    const float nan = __int_as_float(0x7fc00000);
    put(__float_as_uint(max(nan, 1.0f))); put(__float_as_uint(min(1.0f, nan))); put(__float_as_uint(max(-0.0f, 0.0f)));
    put(make_uint4(1, 2, 3, 4).w); put(alignof(float4)); put(sizeof(uchar4));
    put(__float_as_uint(f[8] * f[8] + f[9])); put(__float_as_uint(__fmaf_rn(f[8], f[8], f[9])));
}"""


def test_arithmetic_is_cudas():
    probe = Probe(ARITHMETIC)
    values = np.array([0.5, 1.5, -0.5, -1.5, 3e9, -3e9, np.nan, 2147483520.0, 1 + 2**-12, -1.0], np.float32)
    probe.input[:10] = values.view(np.uint32)
    got = probe(1, 1, 8)
    low, high = -(2**31), 2**31 - 1
    conversions = [
        [0, 0, 1, 0],
        [2, 1, 2, 1],
        [0, -1, 0, 0],
        [-2, -2, -1, -1],
        [high] * 4,
        [low] * 4,
        [0] * 4,
        [2147483520] * 4,
    ]
    np.testing.assert_array_equal(got[:32].view(np.int32).reshape(8, 4), conversions)
    one = 0x3F800000
    np.testing.assert_array_equal(
        got[32:52], [31, 32, 63, 0, 4, 41, 8, 64, 1 << 31, 0x07050301, 3, 2, 0xFFFFFFFF, 2, one, one, 0, 4, 16, 4]
    )
    x = values[8]
    assert got[52:53].view(np.float32)[0] == np.float32(x * x) + values[9] == 2**-11
    assert got[53:54].view(np.float32)[0] == np.float32(2**-11 + 2**-24)


def test_atomics():
    probe = Probe("""PROBE { const u32 t = threadIdx.x; u32* c = p.ticket;
        atomicAdd(c, t); atomicMax(c + 1, t); atomicMin(c + 2, t); atomicOr(c + 3, 1u << t % 32); atomicAnd(c + 4, ~t);
        atomicMax((int*)c + 5, -(int)t - 1); atomicAdd((float*)c + 6, 0.5f);
        atomicMax(p.best, (u64)t << 40); atomicAdd(p.best + 1, 1ull << 33); atomicCAS(p.best + 2, 0ull, (u64)t + 1);
        __threadfence();
        p.out[t] = atomicInc(c + 7, 9); }""")
    for order, first in (("forward", 1), ("reverse", 64)):
        probe.kernel.schedule(order, chaos=0)
        probe.ticket[:] = (0, 0, 99, 0, 0xFFFFFFFF, 0x80000000, 0, 0)
        probe.best[:] = 0
        out = probe(1, 64)[:64]
        assert list(probe.ticket[:6]) == [2016, 63, 0, 0xFFFFFFFF, 0xFFFFFFC0, 0xFFFFFFFF]
        assert probe.ticket[6:7].view(np.float32)[0] == 32
        assert list(probe.best[:3]) == [63 << 40, 64 << 33, first]
        assert sorted(out) == sorted(i % 10 for i in range(64))
        assert probe.ticket[7] == 4


# ---- schedules ------------------------------------------------------------------------------------------------------
def test_schedules():
    probe = Probe("PROBE { p.out[atomicAdd(p.ticket, 1)] = blockIdx.x * blockDim.x + threadIdx.x + 1; }")

    def order(*args, **options):
        probe.kernel.schedule(*args, **options)
        probe.ticket[:] = 0
        seen = probe(8, 40)[:320].copy() - 1
        assert sorted(seen) == list(range(320))
        return list(seen)

    assert order("forward") == list(range(320))
    assert order("reverse") == list(range(320))[::-1]
    seen = {tuple(order("random", seed=seed, resident=resident)) for seed in range(10) for resident in (1, 2)}
    assert len(seen) == 20
    assert order("random", seed=3) == order("random", seed=3)
    blocks = {tuple(dict.fromkeys(np.array(order("random", seed=seed)) // 40)) for seed in range(10)}
    assert len(blocks) > 5  # blocks come in random order too
    first_of_second_block = order("random", seed=1, resident=2)[:40]
    assert len({t // 40 for t in first_of_second_block}) == 2
    assert order("forward", chaos=1) != order("forward")


def test_chaos_lets_others_in_and_lags():
    """Each thread takes 50 steps of a common clock; out: the clock at its first step, and at its last."""
    probe = Probe("""PROBE { u32* out = p.out + 2 * (blockDim.x * blockIdx.x + threadIdx.x);
        out[0] = atomicAdd(p.ticket, 1);
        for (int i = 0; i < 49; ++i) out[1] = atomicAdd(p.ticket, 1); }""")

    def clock(chaos):
        probe.kernel.schedule(resident=4, chaos=chaos)
        probe.ticket[:] = 0
        return probe(4, 32)[:256].astype(int).reshape(128, 2).T

    first, last = clock(0)
    assert (last - first == 49).all()
    first, last = clock(1)
    assert (last - first).min() > 49
    assert first.max() < 128 * 50 / 4  # nobody is kept from starting
    first, last = clock(2)
    late = first > 128 * 50 / 2
    assert 8 < late.sum() < 56  # about a quarter, of all blocks
    assert (late.reshape(4, 32).sum(1) > 0).all()


def test_resident_blocks_meet():
    """A block that waits for another gets on only where both are resident."""
    probe = Probe("""PROBE { if (blockIdx.x == 0) while (atomicAdd(p.ticket, 0) == 0) {}
        else atomicAdd(p.ticket, 1); }""")
    probe.kernel.schedule(resident=2)
    probe(2, 32)
    probe.ticket[:] = 0
    probe.kernel.schedule(resident=1)
    with pytest.raises(KernelFault, match=r"livelock: no thread can go on\n.*threads 0-31 spin at probe.cu:1"):
        probe(2, 32)
    probe.kernel.schedule(resident=1024)
    with pytest.raises(KernelFault, match="invalid launch: over 16384 threads in resident blocks"):
        probe(2, 32)


# ---- counts ---------------------------------------------------------------------------------------------------------
def test_counts_by_byte_size_and_line():
    probe = Probe("""PROBE { const u32 t = threadIdx.x; u32 v = 0;
        v += __ldg((const uint4*)p.in + t).x;
        v += __ldg(p.in + 512 + 8 * t);
        for (u32 i = 0; i < 3; ++i)
            if (t < 16) v += __ldg((const unsigned short*)(p.in + 1024) + t);
        v += __ldg((const unsigned char*)p.ticket);
        p.out[t] = v; }""")
    counts = probe.watch_all(count=True)
    probe(2, 64)
    assert (counts[:1024] == 2).all()
    assert (counts[2048 : 2048 + 64 * 32].reshape(64, 32) == [2] * 4 + [0] * 28).all()
    assert (counts[4096 : 4096 + 32] == 6).all()
    assert counts.sum() == 2 * (1024 + 64 * 4 + 3 * 32)
    assert probe.kernel.loads() == {16: 128, 4: 128, 2: 96, 1: 128}
    lines = {("probe.cu", 2): (4, 128, 64), ("probe.cu", 3): (4, 128, 128), ("probe.cu", 5): (6, 96, 6)}
    assert probe.kernel.requests() == lines
    probe.kernel.schedule("random", resident=2)
    probe(2, 64)
    assert probe.kernel.requests() == {line: tuple(2 * n for n in numbers) for line, numbers in lines.items()}
    probe.kernel.reset()
    assert (probe.kernel.loads(), probe.kernel.requests()) == ({}, {})
    probe(2, 64)
    assert counts.sum() == 4 * (1024 + 64 * 4 + 3 * 32)  # forgotten, no longer written
    assert probe.kernel.requests() == {}


def test_counts_saturate():
    probe = Probe("PROBE { for (int i = 0; i < 20; ++i) p.out[0] += __ldg(p.in); }")
    counts = probe.watch_all(count=True)
    probe(1, 32)
    assert list(counts[:5]) == [255] * 4 + [0]


def test_unwatched_kernels_are_not_checked_and_kernels_do_not_share_watches():
    body = "PROBE { p.out[threadIdx.x] = __ldg(p.in + threadIdx.x); }"
    strict, free = Probe(body), Probe(body)
    strict.kernel.watch(strict.out.ctypes.data, strict.out.nbytes)
    free()
    with pytest.raises(KernelFault, match="outside every registered buffer"):
        strict()
    strict.kernel.reset()
    strict()


def test_launches_are_quick():
    probe = Probe("PROBE { p.out[threadIdx.x] = threadIdx.x; }")
    probe(1, 256)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        probe(1, 256)
        times.append(time.perf_counter() - start)
    assert min(times) < 1e-3


# ---- builds ---------------------------------------------------------------------------------------------------------
def test_compile_error_carries_the_compilers_message():
    with pytest.raises(RuntimeError, match=r"probe.cu:2:.*'nothing' was not declared"):
        Probe("PROBE {\n nothing(); }")


@pytest.mark.parametrize(
    "statement",
    [
        "__shared__ int s;",
        "atomicMax((float*)p.out, 1.0f);",
        "__reduce_max_sync(~0u, -1);",
        "__shfl_sync(~0u, (short)1, 0);",
        "__ldg((const Params*)p.in);",
        "threadIdx.x = 1;",
    ],
)
def test_what_has_no_faithful_twin_does_not_compile(statement):
    with pytest.raises(RuntimeError, match="g\\+\\+ cannot compile"):
        Probe("PROBE { %s }" % statement)  # noqa: UP031


def test_wrong_arguments():
    probe = Probe("PROBE {}")
    with pytest.raises(ValueError, match="params must be the 40 bytes of the kernel's struct, got 39"):
        probe.kernel.launch(1, 32, bytes(39))
    with pytest.raises(ValueError, match="no such schedule: order='sideways'"):
        probe.kernel.schedule("sideways")
    with pytest.raises(ValueError, match="sanitize must be one of '', 'address', 'thread', got 'memory'"):
        Probe("PROBE {}", sanitize="memory")
    with pytest.raises(RuntimeError, match=r"only in a process started by run_sanitized\('address', ...\)"):
        Probe("PROBE {}", sanitize="address")


def test_kernels_are_compiled_once(monkeypatch):
    Probe("PROBE { p.out[0] = 1; }")
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: pytest.fail("compiled again"))
    assert Probe("PROBE { p.out[0] = 1; }")()[0] == 1


def test_processes_may_build_at_the_same_time(tmp_path):
    command = [
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from tests.executor.test_executor import Probe\nprint(Probe('PROBE { p.out[0] = 41 + 1; }')()[0])",
    ]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    started = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0] for process in started] == ["42\n", "42\n"]
    names = sorted(path.name.split("-")[0] for path in (tmp_path / "posepost-cuda-cpu").iterdir())
    assert names == ["probe", "runtime"]


def test_absent_compiler_is_said(monkeypatch):
    monkeypatch.setattr(executor.shutil, "which", lambda name: None)
    executor._compiler.cache_clear()
    try:
        assert executor.available() == (False, "g++ not found: install it (Debian, Ubuntu: apt install g++)")
    finally:
        executor._compiler.cache_clear()


# ---- sanitizers -----------------------------------------------------------------------------------------------------
# name: (sanitizer, grid and block, kernel, regular expression of the report or None: clean)
GATHER = """PROBE { SHARED(Cells, s); const u32 t = threadIdx.x;
    s.cell[t] = t;
    {between}
    p.out[blockDim.x * blockIdx.x + t] = s.cell[blockDim.x - 1 - t]; }"""
SANITIZED = {
    "stores in range": (
        "address",
        (3, 64),
        "PROBE { SHARED(Cells, s); s.cell[255] = 1; __syncthreads();\n"
        " p.out[2047 - threadIdx.x] = s.cell[255] + p.n; }",
        None,
    ),
    "store past the end": (
        "address",
        (3, 64),
        "PROBE { __syncthreads();\n p.out[1985 + threadIdx.x] = 1; }",
        r"heap-buffer-overflow[\s\S]*WRITE of size 4[\s\S]*probe.cu:2",
    ),
    "shared store past the end": (
        "address",
        (3, 64),
        "PROBE { SHARED(Cells, a); SHARED(Cells, b); b.cell[0] = 1;\n a.cell[193 + threadIdx.x] = 1; }",
        r"use-after-poison[\s\S]*probe.cu:2",
    ),
    "store past the last shared variable": (
        "address",
        (3, 64),
        "PROBE { SHARED(Cells, a); SHARED(Cells, b); a.cell[0] = 1;\n b.cell[193 + threadIdx.x] = 1; }",
        r"use-after-poison[\s\S]*probe.cu:2",
    ),
    "stack store past the end": (
        "address",
        (1, 32),
        "PROBE { u32 a[4]; for (u32 i = 0; i < 5 + p.n; ++i)\n ((volatile u32*)a)[i] = i;\n p.out[0] = a[2]; }",
        r"(insufficient space|stack-buffer-overflow)[\s\S]*probe.cu:2",
    ),
    "signed overflow": (
        "address",
        (1, 32),
        "PROBE { int i = 0x7fffffe1 + p.n;\n p.out[0] = i + (int)threadIdx.x; }",
        r"probe.cu:2:\d+: runtime error: signed integer overflow",
    ),
    "plain misaligned vector load": (
        "address",
        (1, 32),
        "PROBE {\n p.out[0] = ((const uint4*)(p.in + 1))->x; }",
        r"probe.cu:2:\d+: runtime error: .*misaligned",
    ),
    "float out of int's range": (
        "address",
        (1, 1),
        "PROBE { float f = 3e9f + p.n;\n p.out[0] = (int)f; }",
        r"probe.cu:2:\d+: runtime error: .*outside the range",
    ),
    "with __syncthreads": ("thread", (3, 64), GATHER.replace("{between}", "__syncthreads();"), None),
    "missing __syncthreads": ("thread", (1, 64), GATHER.replace("{between}", ""), r"data race[\s\S]*probe.cu:4"),
    "missing second __syncthreads": (
        "thread",
        (1, 64),
        GATHER.replace("{between}", "__syncthreads();").replace("- t]; }", "- t];\n s.cell[t] = 1; }"),
        r"data race[\s\S]*probe.cu:5",
    ),
    "with __syncwarp": ("thread", (2, 32), GATHER.replace("{between}", "__syncwarp();"), None),
    "a shuffle is no barrier": (
        "thread",
        (1, 32),
        GATHER.replace("{between}", "__shfl_sync(~0u, t, 0);"),
        r"data race[\s\S]*probe.cu:4",
    ),
    "__syncwarp of half a warp": (
        "thread",
        (1, 32),
        GATHER.replace("{between}", "__syncwarp(t < 16 ? 0xffffu : 0xffff0000u);"),
        r"data race[\s\S]*probe.cu:4",
    ),
    "__syncwarp does not join warps": (
        "thread",
        (1, 64),
        GATHER.replace("{between}", "__syncwarp();"),
        r"data race[\s\S]*probe.cu:4",
    ),
    "partials between fences": ("thread", (3, 32), TICKET.format(**PARTIALS, before=FENCE, after=FENCE), None),
    "maximum between fences": ("thread", (3, 32), TICKET.format(**MAXIMUM, before=FENCE, after=FENCE), None),
    "partials, fence too early": (
        "thread",
        (3, 32),
        TICKET.format(publish=FENCE, collect=PARTIALS["collect"], before=PARTIALS["publish"], after=FENCE),
        r"data race[\s\S]*probe.cu:6",
    ),
    "partials, no fence after the ticket": (
        "thread",
        (3, 32),
        TICKET.format(**PARTIALS, before=FENCE, after=""),
        r"data race[\s\S]*probe.cu:6",
    ),
    "plain maximum of all blocks": (
        "thread",
        (3, 32),
        "PROBE { if (threadIdx.x == 0) {\n if (p.out[0] < blockIdx.x) p.out[0] = blockIdx.x;\n } }",
        r"data race[\s\S]*probe.cu:2",
    ),
    "atomicAdd ticket between fences": (
        "thread",
        (3, 32),
        TICKET.format(**PARTIALS, before=FENCE, after=FENCE).replace(
            "atomicInc(p.ticket, gridDim.x - 1)", "atomicAdd(p.ticket, 1)"
        ),
        None,
    ),
    "atomicAdd ticket without a fence": (
        "thread",
        (3, 32),
        TICKET.format(**PARTIALS, before="", after=FENCE).replace(
            "atomicInc(p.ticket, gridDim.x - 1)", "atomicAdd(p.ticket, 1)"
        ),
        r"data race[\s\S]*probe.cu:6",
    ),
}


def sanitized_main(name):
    kind, shape, body, _ = SANITIZED[name]
    probe = Probe(body, sanitize=kind)
    for schedule in ({}, {"order": "random", "seed": 2, "resident": 2}):
        probe.kernel.schedule(**schedule)
        probe.ticket[:] = 0
        probe(*shape)
    print("finished")


# A process each takes about a second: `make test` runs these, `.ci/run` all.
QUICK = {"stores in range", "store past the end", "signed overflow", "with __syncthreads", "missing __syncthreads"}
QUICK |= {"partials between fences", "partials, fence too early"}


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SANITIZED]
)
def test_sanitizers(name):
    kind, *_, report = SANITIZED[name]
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom tests.executor.test_executor import sanitized_main\n"
    done = run_sanitized(kind, ["-c", f"{code}sanitized_main({name!r})"])
    if report is None:
        assert (done.returncode, done.stdout, done.stderr) == (0, "finished\n", "")
    else:
        assert done.returncode != 0, done.stdout
        assert "finished" not in done.stdout
        assert re.search(report, done.stderr), done.stderr
