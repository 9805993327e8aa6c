# ruff: noqa: E501  (a fault is one line)
"""The proof of the proof, for several people: faults put into posenet_multi.cu and peaks.cu, one edit each, and found.

One suite of launches serves all faults of a source; the kernels as they are pass it. Races and overruns: test_sanitizers of
test_posenet_multi.py and test_peaks.py.
"""

from __future__ import annotations

import numpy as np
import pytest

import posepost
from bench.arrays import values
from bench.cuda_cpu.fork import outcome
from bench.cuda_cpu.seam import STREAM, ExecutorCuda, host
from posepost import _cuda, _kernels, peaks, posenet_multi

from ..helpers import MODES, check_peaks, check_poses, crowd, gaussian_maps, random_tree

MULTI, PEAKS = "posenet_multi.cu", "peaks.cu"

FAULTS = [
    # finding
    (MULTI, "a tie is no root", "<= key;", "< key;"),
    (MULTI, "a larger neighbor is ignored above", "v = y - (y > 0)", "v = y"),
    (MULTI, "a larger neighbor is ignored to the right", "u <= min(x + 1, p.W - 1)", "u <= x"),
    (MULTI, "the threshold itself fails", "key < p.least_key", "key <= p.least_key"),
    (MULTI, "NaN is a root", "|| (!E::INTEGER && key == E::NAN_KEY)) continue", ") continue"),
    (MULTI, "channels and cells swapped", "p.channels_fastest ? i % p.K : i / cells", "p.channels_fastest ? i / cells : i % p.K"),
    (MULTI, "roots of all images in one list", "image * p.room + atomicAdd", "atomicAdd"),
    # walking
    (MULTI, "displacements forward all the way", "route.up ? BACKWARD : FORWARD", "FORWARD"),
    (MULTI, "edge of the child on the way up", "p.edge[route.up ? route.source : k]", "p.edge[k]"),
    (MULTI, "x and y displacements swapped", "{from.y + value_at(p, displacement, image, edge, y, x),\n         from.x + value_at(p, displacement, image, p.K - 1 + edge, y, x)}", "{from.y + value_at(p, displacement, image, p.K - 1 + edge, y, x), from.x + value_at(p, displacement, image, edge, y, x)}"),
    (MULTI, "one refinement less", "i < p.refinements; ++i) {\n        y =", "i + 1 < p.refinements; ++i) {\n        y ="),
    (MULTI, "rounds half down", "clamped(at + 0.5f, size)", "clamped(ceilf(at - 0.5f), size)"),
    (MULTI, "pytorch rounds half up", "rintf(clamped(at, size))", "floorf(clamped(at, size) + 0.5f)"),
    (MULTI, "pytorch scores after the refinement", "if (p.mode == TFJS) {  //", "if (true) {  //"),
    (MULTI, "pytorch walks past a score of 0", "(p.mode != PYTORCH || source_score >= SMALLEST_NORMAL)", "true"),
    (MULTI, "the last level is not walked", "level <= p.longest", "level < p.longest"),
    (MULTI, "coral: weights swapped", "a * (1.0f - f) + b * f", "a * f + b * (1.0f - f)"),
    (MULTI, "coral: edgetpu's rule for all", "p.mode == EDGETPU && route.up", "route.up"),
    (MULTI, "coral: not clamped after a displacement", "q = clamp_to_map(p, {from.y + dy, from.x + dx});", "q = {fmaxf(0.0f, fminf(from.y + dy, p.H - 1.0f)), fmaxf(0.0f, fminf(from.x + dx, p.W - 2.0f))};"),
    (MULTI, "struck out by another's mean", "k == 0 && !(sum", "slot % 2 == 0 && k == 0 && !(0.0f * sum"),
    (MULTI, "struck out for a score that may not count", "rising |= !(next >= 0.0f);", ""),
    # accepting
    (MULTI, "coral: equal means in reverse order", "means[a] == means[b] && a < b", "means[a] == means[b] && a > b"),
    (MULTI, "the accepted root stays", "            roots[slot] = 0;\n        }", "        }"),
    (MULTI, "suppressed at another keypoint", "const u32 k = position_of(roots[i]) % p.K;", "const u32 k = 0;"),
    (MULTI, "radius not reached counts as outside", "dy * dy + dx * dx <= p.radius", "dy * dy + dx * dx < p.radius"),
    (MULTI, "rejected poses suppress", "if (s.accept) {\n            if (t < p.K)", "{\n            if (t < p.K)"),
    (MULTI, "score counts taken keypoints", "taken && taken[k] ? 0.0f", "false ? 0.0f"),
    (MULTI, "kept walks of another image", "p.walks + ((image * p.walked + s.slot)", "p.walks + ((s.slot)"),
    (MULTI, "coral: order of the first mean kept", "before += second[other] > second[q] || (second[other] == second[q] && comes_before(means, other, q));", "before += second[other] >= p.least_pose && comes_before(means, other, q);"),
    (MULTI, "coral: results in cells", "        y *= p.output_stride;\n", ""),
    (MULTI, "rows behind the last are left", "p.scores[first + i] = 0.0f", "p.scores[first + i] += 0.0f"),
    (MULTI, "the list is not emptied", "        p.found[image] = 0;\n", ""),
    (MULTI, "the slot of a root in shared memory", "s.slot = fits ? s.slots[slot] : slot;", "s.slot = slot;"),
    (MULTI, "more roots than shared memory holds are forgotten", "const u32 found = fits ? s.left : listed;", "const u32 found = min(s.left, LISTED);"),
    # a skeleton of one's own
    (MULTI, "x of an offset behind 17 of y", "value_at(p, OFFSETS, image, p.K + keypoint, y, x)", "value_at(p, OFFSETS, image, 17 + keypoint, y, x)"),
    (MULTI, "x of a displacement behind 16 of y", "image, p.K - 1 + edge, y, x)", "image, 16 + edge, y, x)"),
    (MULTI, "coral: x of a displacement behind 16 of y", "channel_x = p.K - 1 + edge", "channel_x = 16 + edge"),
    (MULTI, "score divided by 17", "p.K; ++k) sum += taken && taken[k] ? 0.0f : pose.score[k];\n    return sum / (float)p.K", "p.K; ++k) sum += taken && taken[k] ? 0.0f : pose.score[k];\n    return sum / 17.0f"),
    (MULTI, "coral: second mean divided by 17", "second[q] = sum / (float)p.K", "second[q] = sum / 17.0f"),
    (MULTI, "lanes for 17 keypoints alone", "min(threadIdx.x % 32, p.K - 1)", "min(threadIdx.x % 32, min(p.K - 1, 16u))"),
    (MULTI, "a route by depth alone", "return root == keypoint;", "return p.depth[root] == p.depth[keypoint];"),
    (MULTI, "edges between the root and the fork forgotten", "level + p.depth[root] - p.depth[above]", "level + p.depth[root]"),
    (MULTI, "roots of K keypoints told apart by 17", "position_of(packed), at = position / p.K;", "position_of(packed), at = position / 17;"),
    # peaks
    (PEAKS, "peaks are refined at another map's scale", "E::INTEGER ? (value - p.zero) * p.scale : value", "value * 0.5f"),
    (PEAKS, "weak peaks are not looked at again", "if (again || !s.unclear) break;", "break;"),
    (PEAKS, "the factor is that of the last warp", "for (u32 w = 0; w < warps; ++w) of_block = larger(of_block, parts[w]);", "of_block = parts[warps - 1];"),
    (PEAKS, "the step is not taken", "(float)y + step.y;", "(float)y;"),
    (PEAKS, "the rest is left as it was", "p.points[2 * (first + m) + 1] = p.scores[first + m] = 0.0f;", "p.scores[first + m] = 0.0f;"),
    (PEAKS, "a plateau has no peak", "p.strict ? other >= key : other > key", "other >= key"),
    (PEAKS, "a plateau is all peaks", "p.strict ? other >= key : other > key", "other > key"),
    (PEAKS, "window one cell short below", "min(p.H - 1, y + p.radius)", "min(p.H - 1, y + p.radius - 1)"),
    (PEAKS, "window one cell short to the left", "u = x - min(x, p.radius)", "u = x - min(x, p.radius - 1)"),
    (PEAKS, "x and y swapped", "p.points[2 * to] = (float)x + step.x", "p.points[2 * to] = (float)y + step.x"),
    (PEAKS, "found twice", "            *from = 0;\n", ""),
    (PEAKS, "the list in shared memory is too short", "#define LISTED 1024", "#define LISTED 4"),
    (PEAKS, "equal places in the order", "s.list[j] > s.list[i]", "s.list[j] >= s.list[i]"),
    (PEAKS, "the longer list begins where the shorter one does", "behind + (i - LISTED)", "behind + i"),
    (PEAKS, "lines are not stepped", "                ++y;\n", ""),
    (PEAKS, "blocks of a map look at the same cells", "blockIdx.y * blockDim.x + threadIdx.x, y", "threadIdx.x, y"),
    (PEAKS, "the first block goes on", "atomicInc(ticket, gridDim.y - 1) == gridDim.y - 1", "atomicInc(ticket, gridDim.y - 1) == 0"),
    (PEAKS, "the shared list is not emptied", "atomicExch(p.found + blockIdx.x, 0u)", "p.found[blockIdx.x]"),
    (PEAKS, "what lies behind the shared list is taken from its head", "    behind += LISTED;\n", ""),
    (PEAKS, "nothing is left out", "p.left_out[row] = found - count", "p.left_out[row] = 0"),
    (PEAKS, "more than there is room for", "min(found, p.max_peaks)", "found"),
]  # fmt: skip


def suite(source: str, cuda: ExecutorCuda) -> None:
    """What the tests of the kernels check, on few maps."""
    if source == PEAKS:
        for case, kind in enumerate(("random", "ties", "constant", "nan")):
            for plateau, nms_window in (("all", 3), ("none", 5)):
                options = {"plateau": plateau, "nms_window": nms_window, "threshold": -2.0}
                check_peaks(values(kind, "float32", (2, 3, 9, 11), case), "nchw", **options)
        full = np.full((1, 2, 40, 30), 0.5, np.float32)
        full[0, 1] += np.arange(1200, dtype=np.float32).reshape(40, 30) % 7
        check_peaks(full, "nchw", plateau="all", nms_window=3, threshold=-2.0)
        cells = np.arange(4800, dtype=np.float32).reshape(80, 60)
        rising = np.zeros((1, 1, 80, 60), np.float32)  # 1200 peaks, the best of them those of the last threads
        rising[0, 0, ::2, ::2] = (cells % 512 + cells / 5000 + 1)[::2, ::2]
        check_peaks(rising, "nchw", plateau="all", nms_window=3, threshold=-2.0)
        few_large = np.zeros(
            (1, 2, 97, 90), np.float32
        )  # several blocks a map; one list fits shared memory, one does not
        few_large[0, :, ::2, ::2] = np.random.default_rng(5).permutation(49 * 45).reshape(49, 45) + 1
        few_large[0, 1, :, 40:] = 0
        for _ in range(2):
            check_peaks(few_large, "nchw", plateau="all", nms_window=3, threshold=0.5)
        weak = gaussian_maps((2, 3, 19, 22), "float32", 1) * np.float32(2e-3)
        options = {"threshold": 5e-4, "max_peaks": 12, "nms_window": 5, "refine": posepost.DarkUDP(blur=5)}
        check_peaks(weak, "nchw", 1e-3, **options)
        return
    tie = crowd("float32", 1, 6, 8, 9)
    tie["heatmaps"] = np.round(tie["heatmaps"])
    level = {**tie, "heatmaps": np.full_like(tie["heatmaps"], 0.5)}  # the threshold itself, everywhere
    many = crowd("float32", 1, 9, 8, 9)  # 1224 roots, the last of them the largest
    many["heatmaps"] = np.broadcast_to(
        0.5 + np.arange(17, dtype=np.float32).reshape(1, 17, 1, 1) / 64, (1, 17, 9, 8)
    ).copy()
    spoilt = crowd("float32", 1, 6, 8, 8)
    spoilt["heatmaps"][:, :, 2:4, 3] = np.nan
    halves = {name: np.round(array * 2) / 2 for name, array in crowd("float32", 1, 8, 8, 7).items()}
    for i in range(1, 4):
        halves[list(halves)[i]] = (
            np.round(halves[list(halves)[i]] / 4) * 4
        )  # cells fall on halves, distances on the radius
    for mode in MODES:
        for view_name in ("nchw", "nhwc"):
            for tensors in (crowd("float32", 2, 9, 11, 1), tie, level, spoilt, halves):
                for threshold in (0.5, 0.05):
                    check_poses(
                        tensors,
                        view_name,
                        mode=mode,
                        score_threshold=threshold,
                        nms_radius=8.0,
                        max_poses=12,
                        activation=None,
                    )
    options = {"mode": "tfjs", "score_threshold": 0.05, "nms_radius": 1e-3, "max_poses": 300, "activation": None}
    check_poses(many, **options)
    for K, seed in ((1, 0), (5, 1), (32, 0), (32, 1)):
        for mode in ("tfjs", "pytorch", "coral"):
            tensors = crowd("float32", 1, 6, 7, seed, K)
            skeleton = random_tree(K, seed)
            check_poses(tensors, skeleton=skeleton, mode=mode, score_threshold=0.05, nms_radius=8.0, activation=None)
    assert not host(_cuda._workspaces[0, STREAM, 0]).any()


def forget() -> None:
    _cuda.kernel.cache_clear()
    posenet_multi._plan.cache_clear()
    peaks._plan.cache_clear()
    _cuda._scratch.clear()


@pytest.mark.parametrize("source", [MULTI, PEAKS])
def test_the_kernels_as_they_are_pass(cpu_cuda: ExecutorCuda, source: str) -> None:
    forget()
    suite(source, cpu_cuda)


@pytest.mark.slow
@pytest.mark.parametrize(("source", "what", "old", "new"), FAULTS, ids=[what for _, what, _, _ in FAULTS])
def test_a_fault_is_found(
    cpu_cuda: ExecutorCuda, monkeypatch: pytest.MonkeyPatch, source: str, what: str, old: str, new: str
) -> None:
    whole = _kernels.source(source)
    assert whole.count(old) == 1, f"the edit must fit one place, it fits {whole.count(old)}"
    read = _kernels.source
    monkeypatch.setattr(_kernels, "source", lambda name: whole.replace(old, new) if name == source else read(name))
    forget()
    found = outcome(lambda: suite(source, cpu_cuda))
    forget()
    assert found == "found"
