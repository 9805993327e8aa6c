# ruff: noqa: E501  (a fault is one line)
"""The proof of the proof, for decode_posenet_multi: faults put into posenet_multi.cu, one edit each, and found.

One suite of launches serves all faults; the kernels as they are pass it. Races and overruns: test_sanitizers.py.
"""

from __future__ import annotations

import numpy as np
import pytest

from bench.cuda_cpu.seam import STREAM, ExecutorCuda, host
from posepost import _cuda

from ..helpers import MODES, check_fault_is_found, check_poses, crowd, random_tree

pytestmark = pytest.mark.usefixtures("fresh_plans")

SOURCE = "posenet_multi.cu"

FAULTS = [
    # finding
    ("a tie is no root", "<= key;", "< key;"),
    ("a larger neighbor is ignored above", "v = y - (y > 0)", "v = y"),
    ("a larger neighbor is ignored to the right", "u <= min(x + 1, p.W - 1)", "u <= x"),
    ("the threshold itself fails", "key < p.least_key", "key <= p.least_key"),
    ("NaN is a root", "|| (!E::INTEGER && key == E::NAN_KEY)) continue", ") continue"),
    ("channels and cells swapped", "p.channels_fastest ? i % p.K : i / cells", "p.channels_fastest ? i / cells : i % p.K"),
    ("roots of all images in one list", "image * p.room + atomicAdd", "atomicAdd"),
    # walking
    ("displacements forward all the way", "route.up ? BACKWARD : FORWARD", "FORWARD"),
    ("edge of the child on the way up", "p.edge[route.up ? route.source : k]", "p.edge[k]"),
    ("x and y displacements swapped", "{from.y + value_at(p, displacement, image, edge, y, x),\n         from.x + value_at(p, displacement, image, p.K - 1 + edge, y, x)}", "{from.y + value_at(p, displacement, image, p.K - 1 + edge, y, x), from.x + value_at(p, displacement, image, edge, y, x)}"),
    ("one refinement less", "i < p.refinements; ++i) {\n        y =", "i + 1 < p.refinements; ++i) {\n        y ="),
    ("rounds half down", "clamped(at + 0.5f, size)", "clamped(ceilf(at - 0.5f), size)"),
    ("pytorch rounds half up", "rintf(clamped(at, size))", "floorf(clamped(at, size) + 0.5f)"),
    ("pytorch scores after the refinement", "if (p.mode == TFJS) {  //", "if (true) {  //"),
    ("pytorch walks past a score of 0", "(p.mode != PYTORCH || source_score >= SMALLEST_NORMAL)", "true"),
    ("the last level is not walked", "level <= p.longest", "level < p.longest"),
    ("coral: weights swapped", "a * (1.0f - f) + b * f", "a * f + b * (1.0f - f)"),
    ("coral: edgetpu's rule for all", "p.mode == EDGETPU && route.up", "route.up"),
    ("coral: not clamped after a displacement", "q = clamp_to_map(p, {from.y + dy, from.x + dx});", "q = {fmaxf(0.0f, fminf(from.y + dy, p.H - 1.0f)), fmaxf(0.0f, fminf(from.x + dx, p.W - 2.0f))};"),
    ("struck out by another's mean", "k == 0 && !(sum", "slot % 2 == 0 && k == 0 && !(0.0f * sum"),
    ("struck out for a score that may not count", "rising |= !(next >= 0.0f);", ""),
    # accepting
    ("coral: equal means in reverse order", "means[a] == means[b] && a < b", "means[a] == means[b] && a > b"),
    ("the accepted root stays", "            roots[slot] = 0;\n        }", "        }"),
    ("suppressed at another keypoint", "const u32 k = position_of(roots[i]) % p.K;", "const u32 k = 0;"),
    ("radius not reached counts as outside", "dy * dy + dx * dx <= p.radius", "dy * dy + dx * dx < p.radius"),
    ("rejected poses suppress", "if (s.accept) {\n            if (t < p.K)", "{\n            if (t < p.K)"),
    ("score counts taken keypoints", "taken && taken[k] ? 0.0f", "false ? 0.0f"),
    ("kept walks of another image", "p.walks + ((image * p.walked + s.slot)", "p.walks + ((s.slot)"),
    ("coral: order of the first mean kept", "before += second[other] > second[q] || (second[other] == second[q] && comes_before(means, other, q));", "before += second[other] >= p.least_pose && comes_before(means, other, q);"),
    ("coral: results in cells", "        y *= p.output_stride;\n", ""),
    ("rows behind the last are left", "p.scores[first + i] = 0.0f", "p.scores[first + i] += 0.0f"),
    ("the list is not emptied", "        p.found[image] = 0;\n", ""),
    ("the slot of a root in shared memory", "s.slot = fits ? s.slots[slot] : slot;", "s.slot = slot;"),
    ("more roots than shared memory holds are forgotten", "const u32 found = fits ? s.left : listed;", "const u32 found = min(s.left, LISTED);"),
    # a skeleton of one's own
    ("x of an offset behind 17 of y", "value_at(p, OFFSETS, image, p.K + keypoint, y, x)", "value_at(p, OFFSETS, image, 17 + keypoint, y, x)"),
    ("x of a displacement behind 16 of y", "image, p.K - 1 + edge, y, x)", "image, 16 + edge, y, x)"),
    ("coral: x of a displacement behind 16 of y", "channel_x = p.K - 1 + edge", "channel_x = 16 + edge"),
    ("score divided by 17", "p.K; ++k) sum += taken && taken[k] ? 0.0f : pose.score[k];\n    return sum / (float)p.K", "p.K; ++k) sum += taken && taken[k] ? 0.0f : pose.score[k];\n    return sum / 17.0f"),
    ("coral: second mean divided by 17", "second[q] = sum / (float)p.K", "second[q] = sum / 17.0f"),
    ("lanes for 17 keypoints alone", "min(threadIdx.x % 32, p.K - 1)", "min(threadIdx.x % 32, min(p.K - 1, 16u))"),
    ("a route by depth alone", "return root == keypoint;", "return p.depth[root] == p.depth[keypoint];"),
    ("edges between the root and the fork forgotten", "level + p.depth[root] - p.depth[above]", "level + p.depth[root]"),
    ("roots of K keypoints told apart by 17", "position_of(packed), at = position / p.K;", "position_of(packed), at = position / 17;"),
]  # fmt: skip


def suite() -> None:
    """What the tests of the kernels check, on few maps."""
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


@pytest.mark.slow
def test_the_kernels_as_they_are_pass(cpu_cuda: ExecutorCuda) -> None:
    suite()


@pytest.mark.slow
@pytest.mark.parametrize(("what", "old", "new"), FAULTS, ids=[what for what, _, _ in FAULTS])
def test_a_fault_is_found(
    cpu_cuda: ExecutorCuda, monkeypatch: pytest.MonkeyPatch, what: str, old: str, new: str
) -> None:
    check_fault_is_found(monkeypatch, SOURCE, old, new, suite)
