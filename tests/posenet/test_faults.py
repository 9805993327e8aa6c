# ruff: noqa: E501  (a fault is one line)
"""The proof of the proof: faults put into the kernels, one edit of the source each, and which check finds them.

A row says what is wrong, in which layout and element type, the edit (old, new), and the checks that must find it, in
the words of bench/cuda_cpu/probe.py. One suite of launches a layout serves all its faults, and the kernels as they are
pass it (under the sanitizers: test_sanitizers.py).
"""

from __future__ import annotations

import textwrap
from typing import NamedTuple

import pytest

from bench.cuda_cpu import executor, probe
from posepost import _kernels

ABLE, REASON = executor.available()
pytestmark = pytest.mark.skipif(not ABLE, reason=REASON)
pytest.importorskip("cupy", reason="CuPy makes the device arrays: pip install posepost[cuda13]")

P, I, S = _kernels.LAYOUTS
SANITIZER = {"address": "address", "undefined": "address", "thread": "thread"}


class Fault(NamedTuple):
    name: str
    layout: str
    element: str
    old: str
    new: str
    found_by: str  # all of these checks; those of a sanitizer alone
    times: int = 1


SCALAR_LOADS = "make_uint4(__ldg((const u32*)({0})), __ldg((const u32*)({0}) + 1), __ldg((const u32*)({0}) + 2), __ldg((const u32*)({0}) + 3))"
BARRIER = "    __syncthreads();\n"

FAULTS = [
    # order of keys
    Fault("a tie goes to the last", P, "f32", "if (k > key)", "if (k >= key)", "result"),
    Fault("a tie goes to the last, within a vector's place", I, "f16", "if (k > key)", "if (k >= key)", "result"),
    Fault("reduction ignores the position", S, "f32", "a > b ? a : b; }", "a >> 32 >= b >> 32 ? a : b; }", "result"),
    Fault("position not inverted", P, "u8", "(u32)~position", "position", "executor"),
    Fault("no NaN rule", P, "f32", "(bits & 0x7fffffffu) > 0x7f800000u ? NAN_KEY : key", "key", "result"),
    Fault("no NaN rule for 16 bits", I, "bf16", "magnitude > infinity ? NAN_KEY16 : key", "key", "result"),
    Fault("infinity is a NaN", S, "f16", "magnitude > infinity", "magnitude >= infinity", "result"),
    Fault("bfloat16 infinity where float16 has it", P, "bf16", "key16(bits, 0x7f80)", "key16(bits, 0x7c00)", "result"),
    Fault("-0 below +0", P, "f32", "0u - bits : bits + 0x80000000u", "~bits : bits + 0x80000000u", "result"),
    Fault("-0 negated as a signed integer", S, "f32", "0u - bits : bits", "(u32)-(i32)bits : bits", "undefined"),
    Fault("+0 comes back as -0", S, "f32", "key >= 0x80000000u ?", "key > 0x80000000u ?", "result"),
    Fault("16 bits: -0 below +0", I, "f16", "? 0x8000 - magnitude", "? 0x7fff - magnitude", "result"),
    Fault("16 bits: negatives ascend", P, "bf16", "? 0x8000 - magnitude", "? magnitude", "result"),
    Fault("16 bits: denormals flushed", P, "f16", "bits & 0x7fff;", "bits & 0x7c00 ? bits & 0x7fff : 0;", "result"),
    Fault("half: subnormals of half the size", S, "f16", "5.9604644775390625e-8f", "2.98023223876953125e-8f", "result"),
    Fault("half: subnormals lose the sign", P, "f16", "sign ? -subnormal : subnormal", "subnormal", "result"),
    Fault("half: exponent bias", I, "f16", "(exponent + 112)", "(exponent + 113)", "result"),
    # bytes
    Fault("bytes one too high", P, "u8", "largest_byte(v, 0) + 1", "largest_byte(v, 0) + 2", "result"),
    Fault("signed bytes compared as unsigned", P, "i8", "largest_byte(v, 0x80808080u)", "largest_byte(v, 0)", "result"),
    Fault("unsigned bytes compared as signed", P, "u8", "largest_byte(v, 0)", "largest_byte(v, 0x80808080u)", "result"),
    Fault("key of signed bytes without the flip", I, "i8", "(bits ^ 0x80) + 1", "bits + 1", "result"),
    Fault("odd bytes not compared", P, "u8", "max_u16x2(w & 0x00ff00ff, w >> 8 & 0x00ff00ff)", "w & 0x00ff00ff", "result"),
    Fault("last word of bytes not compared", P, "i8", "i < 4; ++i) {\n        const u32 w", "i < 3; ++i) {\n        const u32 w", "result"),
    Fault("int8 offsets read as uint8", I, "u8", "(float)((i32)(bits ^ 0x80) - 128)", "(float)bits", "result"),
    # elements of a vector
    Fault("two words of a vector swapped", P, "f32", "i == 1 ? v.y : i == 2 ? v.z", "i == 1 ? v.z : i == 2 ? v.y", "result"),
    Fault("halves of a word swapped", I, "bf16", ">> (i % 2 * 16)", ">> (16 - i % 2 * 16)", "result"),
    Fault("bytes of a word backwards", I, "u8", ">> (i % 4 * 8)", ">> (24 - i % 4 * 8)", "result"),
    Fault("last element left out of the largest", P, "f32", "i < E::PER_VECTOR; ++i) largest", "i + 1 < E::PER_VECTOR; ++i) largest", "result"),
    Fault("the last element for the largest", P, "f16", "largest = max(largest, E::key", "largest = max(0u, E::key", "result"),
    Fault("elements of a vector at one position", P, "bf16", "return position + first;", "return position;", "result"),
    Fault("the last of equal elements", P, "u8", "i = E::PER_VECTOR - 1; i >= 0; --i)", "i = 0; i < E::PER_VECTOR; ++i)", "result"),
    Fault("another vector than the largest one's", P, "f32", "            elements = v;\n        }", "        }\n        elements = v;", "result"),
    Fault("the last of equal vectors", P, "f16", "if (top > key)", "if (top >= key)", "result"),
    Fault("vectors win over the head", P, "f32", "if (of_vectors.key > best.key) best.take", "best.key = 0; if (of_vectors.key) best.take", "result"),
    # warps
    Fault("half a warp not reduced", P, "f32", "lane = 16; lane; lane /= 2) v = larger", "lane = 8; lane; lane /= 2) v = larger", "result"),
    Fault("shuffle names half the warp", P, "f32", "larger(v, __shfl_xor_sync(FULL, v", "larger(v, __shfl_xor_sync(0x0000ffffu, v", "executor"),
    Fault("shuffle in a divergent branch", P, "f32", "const u64 of_block = warp_max(lane < blockDim.x / 32 ? parts[lane] : 0);", "u64 of_block = 0; if (lane < blockDim.x / 32) of_block = warp_max(parts[lane]);", "executor"),
    Fault("shuffle by the lanes that found something", I, "f32", "m = warp_max(m);", "if (m) m = warp_max(m);", "executor"),
    # reading a run
    Fault("head to the next 8 bytes", P, "f32", "% 16 / sizeof", "% 8 / sizeof", "executor"),
    Fault("vectors start with the run", P, "u8", "(const uint4*)(run + head)", "(const uint4*)run", "executor"),
    Fault("vectors start with the image", I, "f16", "(const uint4*)(image + head)", "(const uint4*)image", "executor"),
    Fault("head forgotten", P, "i8", "if (rank < head) best.take(E::key(head_bits), first + rank);", "", "result"),
    Fault("tail forgotten", P, "f16", "length - head - vectors * E::PER_VECTOR;", "0;", "result reads"),
    Fault("tail forgotten, interleaved", I, "u8", "tail = length - head - vectors * N;", "tail = 0;", "result reads"),
    Fault("head read by every warp", P, "f32", "if (rank < head) head_bits", "if (rank % 32 < head) head_bits", "reads"),
    Fault("head and tail read by every block", I, "f32", "blockIdx.y == 0 && lane", "lane", "reads"),
    Fault("head and tail read for every channel", I, "f32", "loose % K == k", "true", "reads result"),
    Fault("tail read from the end of the image", I, "f32", "length - tail + lane - head", "length - tail + lane", "executor"),
    Fault("last vector dropped", P, "f32", "v = rank; v < vectors;", "v = rank; v + 1 < vectors;", "reads result"),
    Fault("last round of vectors dropped", I, "i8", "(vectors + active - 1) / active", "vectors / active", "reads result"),
    Fault("vectors read twice", P, "bf16", "v += 4 * team", "v += 3 * team", "reads"),
    Fault("vectors skipped", P, "f32", "v += 4 * team", "v += 5 * team", "reads result"),
    Fault("last vector as scalars", P, "f16", "(length - head) / E::PER_VECTOR;", "(length - head) / E::PER_VECTOR; if (vectors) --const_cast<u32&>(vectors);", "vectors"),
    Fault("scalar loads", P, "f32", "__ldg(vector + v + i * team)", SCALAR_LOADS.format("vector + v + i * team"), "vectors"),
    Fault("scalar loads, interleaved", I, "f32", "__ldg(vector + v)", SCALAR_LOADS.format("vector + v"), "vectors"),
    Fault("neighbors read far apart", P, "f32", "for (u32 v = rank;", "for (u32 v = rank * 37 % team;", "sectors"),
    Fault("neighbors read far apart, strided", S, "f32", "blockIdx.y * rows + t / lanes", "blockIdx.y * rows + t / lanes * 37 % rows", "sectors"),
    Fault("position counted from the first vector", P, "f32", "first + head + (v", "first + (v", "result"),
    Fault("tail's position counted from the run's end", P, "u8", "first + tail_start + rank", "first + length + rank", "result"),
    # planar
    Fault("each warp reads all lines", P, "f32", "y += threads / 32)", "y += 1)", "reads"),
    Fault("stride of lines ignored", P, "f32", "map + y * p.heatmap_stride_y, y * p.W", "map + y * p.W, y * p.W", "result reads"),
    Fault("position counts the gaps between lines", P, "bf16", "y * p.W, p.W", "y * (u32)p.heatmap_stride_y, p.W", "result"),
    Fault("winners of warps that are not there", P, "f32", "lane < blockDim.x / 32", "lane < THREADS / 32", "executor"),
    Fault("a winner of each lane read", P, "f32", "lane < blockDim.x / 32 ? parts[lane] : 0", "parts[lane] & (lane < blockDim.x / 32 ? ~0ull : 0ull)", "undefined"),
    # interleaved
    Fault("active threads no multiple of the channels", I, "f32", "THREADS / K * K,", "THREADS,", "result"),
    Fault("channels not shifted by the head", I, "f32", "(k + K - head % K) % K", "k", "result"),
    Fault("channels shifted the other way", I, "bf16", "(k + K - head % K) % K", "(k + head) % K", "result"),
    Fault("cells not shifted by the head", I, "u8", "(head + t * N + n) / K", "(t * N + n) / K", "result"),
    Fault("step counted in cells of one place", I, "f32", "(active / K * N)", "(active / K)", "result"),
    Fault("winners of threads that are not active", I, "f32", "i < active * N", "i < THREADS * N", "executor"),
    Fault("every other winner left out", I, "f16", "i += 32 * K", "i += 64 * K", "result"),
    Fault("each block reads the whole image", I, "f32", "step = blockIdx.y;", "step = 0;", "reads"),
    # strided
    Fault("strides of lines and columns swapped", S, "f32", "y * p.heatmap_stride_y + x * p.heatmap_stride_x", "y * p.heatmap_stride_x + x * p.heatmap_stride_y", "result"),
    Fault("channels side by side", S, "u8", "maps + c * p.heatmap_stride_k", "maps + c", "result reads"),
    Fault("each block reads the whole map", S, "f32", "stride = (u64)rows * gridDim.y;", "stride = rows;", "reads"),
    Fault("reads beyond the last cell", S, "f32", "if (i + n * stride < cells) loaded", "loaded", "executor"),
    Fault("channels beyond the last", S, "bf16", "if (channel < channels)", "if (channel < lanes)", "executor"),
    Fault("last halving left out", S, "f32", "half >= lanes", "half > lanes", "result"),
    Fault("first halving left out", S, "i8", "half = THREADS / 2", "half = THREADS / 4", "result"),
    Fault("cell divided by the height", S, "f16", "(u32)i / p.W", "(u32)i / p.H", "result"),
    Fault("a step to the next line forgotten", S, "u8", "                    ++y;\n", "", "result"),
    Fault("columns stepped by the lines' share", S, "f32", "x += right;", "x += down;", "result"),
    # barriers
    Fault("no barrier before the warps' winners", P, "f32", "of_warp;\n" + BARRIER, "of_warp;\n", "result"),
    Fault("no barrier before the warps' winners", P, "f32", "of_warp;\n" + BARRIER, "of_warp;\n", "thread"),
    Fault("barrier for one warp", P, "f32", "of_warp;\n" + BARRIER, "of_warp;\n    if (warp == 0) __syncthreads();\n", "executor"),
    Fault("barrier for one lane of a warp", S, "f32", BARRIER + "        if (t < half)", "    if (t % 32 == 0) __syncthreads();\n        if (t < half)", "executor"),
    Fault("no barrier before the gathering", I, "f32", BARRIER + "\n    const u32 lane", "    const u32 lane", "result"),
    Fault("no barrier before the gathering", I, "f32", BARRIER + "\n    const u32 lane", "    const u32 lane", "thread"),
    Fault("no barrier between halvings", S, "f32", "    " + BARRIER + "        if (t < half)", "        if (t < half)", "result"),
    Fault("no barrier between halvings", S, "f32", "    " + BARRIER + "        if (t < half)", "        if (t < half)", "thread"),
    Fault("no barrier before the tile's winners", I, "f32", BARRIER + "    if (gridDim.y > 1", "    if (gridDim.y > 1", "result"),
    Fault("no barrier before the tile's winners", I, "f32", BARRIER + "    if (gridDim.y > 1", "    if (gridDim.y > 1", "thread"),
    Fault("no barrier before the ticket", S, "f32", BARRIER + "    if (threadIdx.x == 0) {  // behind", "    if (threadIdx.x == 0) {  // behind", "workspace"),
    Fault("no barrier after the ticket", S, "f32", "}\n" + BARRIER + "    return last;", "}\n    return last;", "result"),
    Fault("no barrier after the ticket", P, "f32", "}\n" + BARRIER + "    return last;", "}\n    return last;", "thread"),
    # blocks that share a tile
    Fault("no fence before the ticket", P, "f32", "        fence();\n        last", "        last", "executor"),
    Fault("no fence after the ticket", P, "f32", "        fence();\n        if (last)", "        if (last)", "executor"),
    Fault("ticket before the last", P, "f32", "== gridDim.y - 1;", "== gridDim.y - 2;", "result workspace"),
    Fault("tickets do not wrap", I, "f32", "gridDim.y - 1) ==", "gridDim.y) ==", "workspace"),
    Fault("one ticket for all tiles", S, "f32", "p.tickets + blockIdx.x", "p.tickets", "result workspace"),
    Fault("one winner for all channels", P, "f32", "tile.image * p.K + tile.first_channel;", "tile.image * p.K;", "result"),
    Fault("workspace not reset", I, "f32", "atomicExch(best + c, 0ull)", "best[c]", "workspace"),
    Fault("winners merged without atomics", P, "f32", "atomicMax(best + c, scratch.best[c])", "best[c] = larger(best[c], scratch.best[c])", "thread"),
    Fault("winners merged without atomics", I, "f32", "atomicMax(best + c, scratch.best[c])", "best[c] = larger(best[c], scratch.best[c])", "thread"),
    Fault("winners stored, not merged", S, "f32", "atomicMax(best + c, scratch.best[c])", "atomicExch(best + c, scratch.best[c])", "result"),
    # addresses
    Fault("image's address in 32 bits", I, "u8", "tile.image * p.heatmap_stride_b", "(u32)(tile.image * p.heatmap_stride_b)", "result"),
    Fault("channel's address in 32 bits", P, "f32", "tile.first_channel * p.heatmap_stride_k", "(u32)(tile.first_channel * p.heatmap_stride_k)", "result"),
    Fault("line's address in 32 bits", P, "f16", "scan_run<E>(map + y * p.heatmap_stride_y", "scan_run<E>(map + (u32)(y * p.heatmap_stride_y)", "result"),
    Fault("cell's address in 32 bits", S, "f32", "y * p.heatmap_stride_y + x", "(i32)(y * p.heatmap_stride_y) + x", "result"),
    Fault("offset's index in 32 bits", I, "f32", "const u64 offset =", "const u32 offset =", "result"),
    Fault("distance of x offsets in 32 bits", P, "f32", "p.K * p.offset_stride_k)", "(u32)(p.K * p.offset_stride_k))", "result"),
    # tiles and writing
    Fault("tiles of an image rounded down", S, "f32", "(p.K + width - 1) / width", "max(p.K / width, 1)", "executor"),
    Fault("channels beyond the last written", S, "f32", "c < tile.channels; c += blockDim.x)\n        write", "c < p.channel_lanes; c += blockDim.x)\n        write", "address"),
    Fault("y written beyond the last keypoint", P, "u8", "p.keypoints[2 * row + 1]", "p.keypoints[2 * row + 2]", "address"),
    Fault("a last ticket beyond the workspace", I, "f16", "p.tickets + blockIdx.x", "p.tickets + blockIdx.x + 2 * tile.image + 2", "address"),
    Fault("tail of a lane beyond the map", P, "f32", "(length - head) / E::PER_VECTOR;", "(length - head + E::PER_VECTOR - 1) / E::PER_VECTOR;", "address"),
    # keypoints
    Fault("cell divided by the height", P, "f32", "cy = cell / p.W", "cy = cell / p.H", "result"),
    Fault("x and y swapped", I, "f32", "p.keypoints[2 * row] = x;\n    p.keypoints[2 * row + 1] = y;", "p.keypoints[2 * row] = y;\n    p.keypoints[2 * row + 1] = x;", "result"),
    Fault("planes of y and x offsets swapped", I, "f16", "offset_at(p, offset);\n    float x = (float)cx * p.output_stride + offset_at(p, offset + p.K * p.offset_stride_k);", "offset_at(p, offset + p.K * p.offset_stride_k);\n    float x = (float)cx * p.output_stride + offset_at(p, offset);", "result"),
    Fault("y and x offsets in pairs", P, "bf16", "offset + p.K * p.offset_stride_k", "offset + p.offset_stride_k", "result"),
    Fault("strides of offsets swapped", S, "f32", "cy * p.offset_stride_y + cx * p.offset_stride_x", "cy * p.offset_stride_x + cx * p.offset_stride_y", "result"),
    Fault("offsets of the image at the heatmaps' stride", P, "i8", "image * p.offset_stride_b", "image * p.heatmap_stride_b", "result"),
    Fault("bfloat16 offsets read as float16", S, "f32", "case 2: return bf16::widen", "case 2: return f16::widen", "result"),
    Fault("all offsets of a cell read", P, "f32", "float score =", "offset_at(p, offset); float score =", "reads"),
    Fault("zero point of scores ignored", P, "u8", "score - p.heatmap_zero", "score", "result"),
    Fault("zero point of offsets ignored", I, "f32", "(u8::widen(__ldg((const u8::Raw*)data + index)) - zero)", "u8::widen(__ldg((const u8::Raw*)data + index))", "result"),
    Fault("sigmoid before dequantization", I, "i8", "if (E::INTEGER) score = (score - p.heatmap_zero) * p.heatmap_scale;\n    if (p.sigmoid) score = sigmoid(score);", "if (p.sigmoid) score = sigmoid(score);\n    if (E::INTEGER) score = (score - p.heatmap_zero) * p.heatmap_scale;", "result"),
    Fault("sigmoid of the negative", P, "f32", "expf(-v)", "expf(v)", "result"),
    Fault("y from the transformed x", S, "f32", "y = m[3] * x", "y = m[3] * tx", "result"),
    Fault("one matrix for all images", I, "f32", "row * p.transform_stride + i", "i", "result"),
    Fault("matrix read by columns", P, "f32", "m[0] * x + m[1] * y + m[2]", "m[0] * x + m[2] * y + m[4]", "result"),
]  # fmt: skip

QUICK = (
    "a tie goes to the last",
    "vectors read twice",
    "scalar loads, interleaved",
    "neighbors read far apart",
    "tickets do not wrap",
    "no fence before the ticket",
    "channels not shifted by the head",
    "-0 negated as a signed integer",
    "y written beyond the last keypoint",
    "winners merged without atomics",
)


def parameter(fault: Fault) -> object:
    name = f"{fault.layout}-{fault.element}-{fault.name}-{fault.found_by}".replace(" ", "_")
    return pytest.param(fault, id=name, marks=() if fault.name in QUICK else pytest.mark.slow)


@pytest.mark.parametrize(
    "element", ["f32", *(pytest.param(e, marks=pytest.mark.slow) for e in probe.DTYPE if e != "f32")]
)
@pytest.mark.parametrize("layout", _kernels.LAYOUTS)
def test_nothing_is_found_in_the_kernels_as_they_are(layout: str, element: str) -> None:
    assert probe.judge(layout, element) == {}


@pytest.mark.parametrize("fault", [parameter(fault) for fault in FAULTS])
def test_fault_is_found(fault: Fault) -> None:
    edit = (fault.old, fault.new, fault.times)
    expected = set(fault.found_by.split())
    kinds = {SANITIZER.get(check, "") for check in expected}
    assert len(kinds) == 1, "one row, one way to run"
    kind = kinds.pop()
    if kind:
        found = probe.judge_sanitized(kind, [(fault.layout, fault.element, edit)])
    else:
        found = probe.judge(fault.layout, fault.element, edit)
    where = "\n".join(f"{check}: {textwrap.shorten(text, 300)}" for check, text in found.items())
    assert expected <= set(found), f"found only\n{where}"


def test_faults_are_as_many_as_the_kernels_deserve() -> None:
    assert len({(fault.old, fault.new) for fault in FAULTS}) >= 36
    for layout in _kernels.LAYOUTS:
        assert {fault.element for fault in FAULTS if fault.layout == layout} == set(_kernels.ELEMENTS.values())
    every = {check for fault in FAULTS for check in fault.found_by.split()}
    assert every == {"result", "reads", "vectors", "sectors", "workspace", "executor", *probe.REPORTS.values()}


def test_an_edit_that_does_not_fit_is_refused() -> None:
    source = _kernels.source("posenet.cu")
    with pytest.raises(ValueError, match="must stand in the source 1 times, not 0"):
        probe.faulty(source, "no such text", "")
    with pytest.raises(ValueError, match="must stand in the source 1 times, not 2"):
        probe.faulty(source, "elements_before_vectors<E>(", "")
