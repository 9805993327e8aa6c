"""TopDownSession on the CPU: crops of a photograph run, decoded into pixels of the photograph.

The networks are made by `onnx_models` and their answers are known: colors of the crop, blurred, are the heatmaps, so
that a dot drawn in the photograph has to come back where it was drawn.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')

import onnxruntime

from posepost import Flip, Keypoints, decode_heatmap, decode_simcc, ort
from posepost.ort import topdown

from ..dots import BOXES, dots_in, found, photograph, photograph_pixels
from ..onnx_models import CPU, build, exactly, network


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
@pytest.mark.parametrize(
    ("kind", "preset", "size", "within"),
    [
        ("heatmap", "mmpose_dark", (128, 96), 0.25),
        ("heatmap", "mmpose_udp", (129, 97), 0.25),  # cell j on pixel 4 j from the first to the last
        ("heatmap", None, (64, 48), 1.5),  # "quarter": cells of 4 pixels
        ("heatmap", None, (48, 64), 1.5),
        ("heatmap", "hrnet", (64, 64), 1.5),
        ("simcc", None, (64, 48), 0.75),  # the largest pixel, not a bin between two
        ("simcc", None, (48, 64), 0.75),
        ("simcc", "simcc", (64, 64), 0.75),
    ],
)
def test_a_dot_in_the_photograph_comes_back_where_it_was_drawn(
    kind: str, preset: str | None, size: tuple[int, int], within: float, box: tuple[float, ...], flip: bool
) -> None:
    """within: pixels of the crop; the whole pixel that a drawn dot may be off is one of the photograph."""
    dots = dots_in(box)
    names = ("simcc_x", "simcc_y") if kind == "simcc" else ("heatmaps",)
    session = ort.TopDownSession(network(kind, size=size, names=names), preset=preset, flip_pairs=(0, 1, 2))
    result = found(session, photograph(dots, spread=1.5 * max(1, photograph_pixels(box, size))), [box], flip=flip)
    shifted = 0.5 * flip  # mirrored cells and bins lie a fraction beside the others, by design of the peers
    allowed = (within + shifted) * photograph_pixels(box, size) + 0.25
    off = np.hypot(*(result.keypoints[0] - np.array([dot[:2] for dot in dots])).T)
    assert off.max() < allowed
    assert result.scores.min() > 0.1
    if preset in ("mmpose_dark", "mmpose_udp") and not flip:
        assert off.max() < 1


@pytest.mark.parametrize("kind", ["heatmap", "simcc"])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("options", [
    {"batch": None},
    {"batch": 1},
    {"batch": 2},
    {"batch": 4},
    {"batch": 7},
    {"dtype": "float16"},
    {"dtype": "float16", "input_dtype": "float16", "batch": 3},
    {"dtype": "uint8"},
    {"input_dtype": "uint8", "input_layout": "NHWC"},
    {"input_layout": "NHWC", "batch": 2},
    {"layout": "NHWC"},
], ids=str)  # fmt: skip
def test_several_people_of_one_photograph(kind: str, flip: bool, options: dict[str, Any]) -> None:
    """Whatever the batch, the types and the layouts."""
    boxes = [(10, 10, 40, 60), (150, 20, 180, 60), (20, 100, 60, 150), (140, 110, 190, 140)]
    dots = [dots_in(box) for box in boxes]
    image = photograph([dot for person in dots for dot in person])
    session = ort.TopDownSession(network(kind, **options), flip_pairs=[0, 1, 2])
    result = found(session, image, boxes, flip=flip)
    assert result.keypoints.shape == (4, 3, 2)
    assert result.scores.shape == (4, 3)
    off = np.hypot(*np.moveaxis(result.keypoints - np.array(dots)[:, :, :2], 2, 0))
    assert off.max() < 2.2 * max(photograph_pixels(box) for box in boxes)
    for row, box in enumerate(boxes):
        alone = found(session, image, box, flip=flip)
        assert np.allclose(alone.keypoints[0], result.keypoints[row], rtol=0, atol=1e-3)
        assert np.allclose(alone.scores[0], result.scores[row], rtol=0, atol=1e-5)


@pytest.mark.parametrize("split", [1, 3, 4])
def test_the_split_ratio_is_that_of_the_sizes_and_not_of_the_preset(split: int) -> None:
    session = ort.TopDownSession(network("simcc", split=split), flip_pairs=(0, 1, 2))
    assert session.model.ratio == split
    box = BOXES["upright"]
    for flip in (False, True):
        off = found(session, photograph(dots_in(box)), box, flip=flip).keypoints[0] - np.array(dots_in(box))[:, :2]
        assert np.abs(off).max() < 1.1 * photograph_pixels(box)


@pytest.mark.parametrize("kind", ["heatmap", "simcc"])
@pytest.mark.parametrize("batch", [None, 2])
def test_session_gives_what_the_decoder_gives_on_the_models_outputs(kind: str, batch: int | None) -> None:
    data = network(kind, batch=batch)
    session = ort.TopDownSession(data, flip_pairs=(0, 2, 1))
    images, transforms = session.crop(photograph(dots_in(BOXES["upright"])), [BOXES["upright"], BOXES["wide"]])
    raw = onnxruntime.InferenceSession(data, providers=[CPU])
    names = ["simcc_x", "simcc_y"] if kind == "simcc" else ["heatmaps"]
    maps = raw.run(names, {"picture": images})
    mirrored = raw.run(names, {"picture": np.ascontiguousarray(images[..., ::-1])})
    for theirs, ours in zip(maps, session.forward(images)):
        assert np.array_equal(theirs, ours)
    for flip in (False, True):
        if kind == "simcc":
            other = Flip(mirrored, (0, 2, 1)) if flip else None
            expected = decode_simcc(*maps, preset="rtmpose", transform=transforms, flip=other)
        else:
            other = Flip(mirrored[0], (0, 2, 1), shift=True) if flip else None
            expected = decode_heatmap(
                *maps, preset="mmpose_msra", input_size=(48, 64), transform=transforms, flip=other
            )
        out = Keypoints(np.zeros((2, 3, 2), np.float32), np.zeros((2, 3), np.float32))
        result = session.run(images, transform=transforms, flip=flip, out=out)
        assert result.keypoints is out.keypoints
        assert np.array_equal(out.keypoints, expected.keypoints)
        assert np.array_equal(out.scores, expected.scores)
    assert np.array_equal(
        session.run(images, transform=transforms[0]).keypoints[0],
        session.run(images, transform=transforms).keypoints[0],
    )


def test_no_people_and_more_than_one_run_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topdown, "MOST_CROPS", 3)
    session = ort.TopDownSession(network())
    image, boxes = photograph(dots_in(BOXES["upright"])), [BOXES["upright"]] * 8
    ran: list[int] = []
    real = session._infer
    monkeypatch.setattr(session, "_infer", lambda array, heads: ran.append(len(array)) or real(array, heads))
    result = found(session, image, boxes)
    assert ran == [3, 3, 3]
    assert (result.keypoints == result.keypoints[0]).all()
    images, transforms = session.crop(image, [])
    assert (images.shape, transforms.shape) == ((0, 3, 64, 48), (0, 2, 3))
    nothing = session.run(images, transform=transforms)
    assert (nothing.keypoints.shape, nothing.scores.shape) == ((0, 3, 2), (0, 3))
    assert ran == [3, 3, 3]
    images, transforms = session.crop(image, boxes)
    with pytest.raises(ValueError, match=exactly("out must be None where the model takes 3 crops a run, got 8 crops")):
        session.run(images, out=result)
    with pytest.raises(ValueError, match=exactly("transform must have shape (2, 3) or (8, 2, 3), got (7, 2, 3)")):
        session.run(images, transform=transforms[1:])
    with pytest.raises(
        TypeError, match=exactly("transform must be numbers of shape (2, 3) or (8, 2, 3), got [[1, 2], [3]]")
    ):
        session.run(images, transform=[[1, 2], [3]])


def test_a_presets_sigmoid_is_not_applied_twice() -> None:
    """mediapipe's heatmaps are logits: those that passed a Sigmoid in the graph are not."""
    logits, scores = network(), network(tail="Sigmoid")
    assert ort.read_topdown(logits).activation is None
    assert ort.read_topdown(scores).activation is None
    a, b = (ort.TopDownSession(data, preset="mediapipe") for data in (logits, scores))
    assert (a.model.activation, a.model.activation_by) == ("sigmoid", "preset mediapipe")
    assert (b.model.activation, b.model.activation_by) == (None, "passed Sigmoid")
    image, box = photograph(dots_in(BOXES["upright"])), BOXES["upright"]
    one, other = (found(session, image, box) for session in (a, b))
    assert np.allclose(one.scores, other.scores, rtol=0, atol=1e-6)
    assert np.allclose(one.keypoints, other.keypoints, rtol=0, atol=1e-2)
    plain = ort.TopDownSession(logits, preset="mediapipe", activation=None)
    assert plain.model.activation_by == "given"
    raw = plain.forward(plain.crop(image, box)[0])[0]
    assert np.allclose(found(plain, image, box).scores[0], raw[0].max(axis=(1, 2)), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "kind", "message"),
    [
        ([1.0], TypeError, "images must be a NumPy array, because this session runs on the CPU (R), got list"),
        (np.zeros((5, 3, 64, 48)), TypeError, "images must have the model's dtype float32, got float64"),
        (
            np.zeros((5, 3, 48, 64), np.float32),
            ValueError,
            "images must have shape (any, 3, 64, 48), got (5, 3, 48, 64)",
        ),
    ],
)
def test_wrong_images(images: Any, kind: type[Exception], message: str) -> None:
    session = ort.TopDownSession(network(batch=2), providers=[CPU])
    with pytest.raises(kind, match=exactly(message.replace("(R)", "(providers= names no CUDA provider)"))):
        session.run(images)


def test_deeplabcuts_location_refinement_is_not_left_out() -> None:
    """pose = cell * stride + stride / 2 + locref * 7.2801, DeepLabCut's default locref_stdev: no PoseNet."""
    data = build({"heatmap": 4, "locref": 8}, size=(64, 48))
    session = ort.TopDownSession(data, preset="deeplabcut")
    images = np.random.default_rng(1).normal(size=(1, 3, 64, 48)).astype(np.float32)
    heatmaps, locref = session.forward(images)
    cells = heatmaps[0].reshape(4, -1).argmax(axis=1)
    offsets = locref[0].reshape(4, 2, -1)[np.arange(4), :, cells]
    right = np.stack([cells % 6, cells // 6], axis=-1) * 8 + 4 + offsets * 7.2801
    assert np.abs(session.run(images).keypoints[0] - right).max() < 1e-4
    plain = ort.TopDownSession(data, preset="deeplabcut", heads={"heatmaps": "heatmap"}).run(images).keypoints[0]
    assert np.array_equal(plain, np.stack([cells % 6, cells // 6], axis=-1) * 8 + 4)


@pytest.mark.parametrize(
    "transform",
    [
        [["1", "0", "0"], ["0", "1", "0"]],
        np.ma.masked_array(np.ones((2, 3), np.float32), True),
        [[10**400, 0, 0], [0, 1, 0]],
        [[1e39, 0, 0], [0, 1, 0]],
        np.ones((2, 3), bool),
    ],
    ids=["strings", "masked", "10**400", "beyond float32", "bool"],
)
def test_several_runs_took_a_transform_that_one_run_refuses(transform: Any) -> None:
    said = []
    for batch in (3, 2):
        session = ort.TopDownSession(network(batch=batch))
        with pytest.raises((TypeError, ValueError), match=r"^transform must be ") as caught:
            session.run(np.zeros((3, 3, 64, 48), np.float32), transform=transform)
        said.append(str(caught.value))
    assert said[0] == said[1]
