"""PoseNet heads: which outputs they are, what the metadata says, and errors that say what to name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason='needs onnx: pip install "posepost[ort]"')
pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "posepost[ort]"')
pytest.importorskip("PIL", reason='needs Pillow: pip install "posepost[ort]"')


from posepost import ort

from ..onnx_models import Layout, build, exactly, outputs_only, pixels


def test_extra_outputs_do_not_confuse() -> None:
    heads = {"displacement_bwd": 32, "displacement_fwd": 32, "heatmaps": 17, "long_offsets": 34, "part_heatmaps": 24}
    data = build({**heads, "part_offsets": 48, "segments": 1, "short_offsets": 34}, layout="NHWC")
    model = ort.read_model(data)
    assert model.heads == {
        "heatmaps": "heatmaps",
        "offsets": "short_offsets",
        "displacement_fwd": "displacement_fwd",
        "displacement_bwd": "displacement_bwd",
    }
    assert model.heads_by == "by shape and name"


def test_names_decide_between_outputs_of_one_shape() -> None:
    heads = {"visibility": 17, "heatmaps": 17, "vectors": 34, "offsets": 34}
    model = ort.read_model(build({**heads, "moves_forward": 32, "moves_backward": 32}))
    assert model.heads == {
        "heatmaps": "heatmaps",
        "offsets": "offsets",
        "displacement_fwd": "moves_forward",
        "displacement_bwd": "moves_backward",
    }
    assert model.heads_by == "by shape and name"


def test_outputs_left_over_are_a_reason_to_ask() -> None:
    data = build({"visibility": 17, "heatmaps": 17, "vectors": 34, "offsets": 34})
    message = (
        "model: heatmaps (1, 17, 5, 7) and offsets (1, 34, 5, 7) may be PoseNet's heatmaps and offsets (offsets has "
        "twice the channels of heatmaps on the same grid; heatmaps and offsets are named so), but visibility and "
        "vectors "
        'are left over: if they are, give heads={"heatmaps": "heatmaps", "offsets": "offsets"}; for heatmaps alone '
        "give "
        'heads={"heatmaps": "heatmaps"} and preset='
    )
    with pytest.raises(ValueError, match=exactly(message)):
        ort.PoseSession(data)
    named = ort.PoseSession(data, heads={"heatmaps": "heatmaps", "offsets": "offsets"})
    assert named.model.heads_by == "named by the caller"


def test_two_outputs_are_not_taken_for_posenet_by_their_sizes_alone() -> None:
    data = build({"out0": 5, "out1": 10})
    message = (
        "model: out0 (1, 5, 5, 7) and out1 (1, 10, 5, 7) may be PoseNet's heatmaps and offsets (out1 has twice the "
        "channels of out0 on the same grid), but nothing but sizes says so: if they are, give "
        'heads={"heatmaps": "out0", "offsets": "out1"}; for heatmaps alone give heads={"heatmaps": "out0"} and preset='
    )
    for read in (ort.recognize, ort.PoseSession):
        with pytest.raises(ValueError, match=exactly(message)):
            read(data)
    assert ort.recognize(data, heads={"heatmaps": "out0", "offsets": "out1"}).kind == "posenet"
    assert ort.recognize(data, heads={"heatmaps": "out0"}, preset="hrnet").kind == "heatmap"
    assert ort.recognize(build({"out0": 5, "out1": 10}, metadata={"posepost.output_stride": "8"})).kind == "posenet"
    assert ort.PoseSession(data, heads={"offsets": "out1"}).model.heads == {"heatmaps": "out0", "offsets": "out1"}


def test_four_anonymous_heads_are_told_by_their_sizes_but_not_their_directions() -> None:
    data = build({"a": 32, "b": 17, "c": 32, "d": 34}, size=(33, 49))
    assert ort.recognize(data).heads == {"heatmaps": "b", "offsets": "d"}
    session = ort.PoseSession(data)
    with pytest.raises(
        ValueError,
        match=exactly(
            "model: no displacement_fwd and displacement_bwd among the outputs, which several people need (heads= "
            "names "
            "them): a (1, 32, 5, 7), b (1, 17, 5, 7), c (1, 32, 5, 7), d (1, 34, 5, 7)"
        ),
    ):
        session.run_multi(pixels(session))


def test_shapes_are_enough_where_names_say_nothing() -> None:
    model = ort.read_model(build({"out0": 5, "out1": 10, "out2": 8, "out3": 8}))
    assert model.heads == {"heatmaps": "out0", "offsets": "out1"}
    assert model.heads_by == "by shape"
    assert "displacement_fwd not recognized (not needed for one person)" in ort.describe(model)


def test_two_channels_where_displacements_look_like_heatmaps() -> None:
    names = {"float_heatmaps": 2, "displacement_forward": 2, "displacement_backward": 2, "float_short_offsets": 4}
    assert list(ort.read_model(build(names)).heads.values()) == [
        "float_heatmaps",
        "float_short_offsets",
        "displacement_forward",
        "displacement_backward",
    ]


def test_ambiguous_heads_name_the_candidates() -> None:
    data = build({"a": 17, "b": 34, "c": 34})
    with pytest.raises(
        ValueError,
        match=exactly(
            "model: several outputs may be the heads, name them with heads=: "
            "a (1, 17, 5, 7) and b (1, 34, 5, 7) or a (1, 17, 5, 7) and c (1, 34, 5, 7)"
        ),
    ):
        ort.PoseSession(data)
    session = ort.PoseSession(data, heads={"heatmaps": "a", "offsets": "c"})
    assert session.model.heads == {"heatmaps": "a", "offsets": "c"}
    images = pixels(session)
    other = ort.PoseSession(data, heads={"heatmaps": "a", "offsets": "b"})
    assert not np.array_equal(session.run(images).keypoints, other.run(images).keypoints)


def test_a_model_without_the_heads() -> None:
    data = build({"boxes": 6, "heatmaps": 17})
    with pytest.raises(
        ValueError,
        match=exactly(
            "model: no heatmaps and offsets among the outputs (offsets must have twice the channels of heatmaps; "
            "heads= names them): boxes (1, 6, 5, 7), heatmaps (1, 17, 5, 7)"
        ),
    ):
        ort.PoseSession(data)


def test_part_heads_are_no_substitute_but_may_be_named() -> None:
    data = build({"part_heatmaps": 24, "part_offsets": 48})
    with pytest.raises(ValueError, match=r"^model: no heatmaps and offsets among the outputs"):
        ort.read_model(data)
    named = ort.read_model(data, heads={"heatmaps": "part_heatmaps", "offsets": "part_offsets"})
    assert (named.heads_by, named.layout) == ("named by the caller", "NCHW")


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        (
            {"joints": "heatmaps"},
            "heads must have keys among heatmaps, offsets, displacement_fwd, displacement_bwd, got 'joints'",
        ),
        ({"heatmaps": "x"}, "heads['heatmaps'] must be one of the outputs heatmaps, offsets, got 'x'"),
        (
            {"heatmaps": "offsets", "offsets": "heatmaps"},
            "model: heads do not fit: offsets must have twice the channels of heatmaps, "
            "got offsets (1, 34, 5, 7) and heatmaps (1, 17, 5, 7)",
        ),
    ],
)
def test_wrong_heads(heads: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=exactly(message)):
        ort.read_model(build(), heads=heads)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_heads_whose_shapes_the_graph_hides_are_found_by_a_run_on_zeros(layout: Layout) -> None:
    session = ort.PoseSession(build({"heatmaps": 5, "offsets": 10}, layout=layout, hide_maps=True))
    assert (session.model.layout, session.model.output_stride, len(session.model.keypoints)) == (layout, 8, 5)
    images = pixels(session)
    plain = ort.PoseSession(build({"heatmaps": 5, "offsets": 10}, layout=layout)).run(images)
    assert np.array_equal(session.run(images).keypoints, plain.keypoints)


def test_layout_argument_decides_where_the_graph_does_not() -> None:
    data = outputs_only({"h": (None, None, None), "o": (None, None, None)})
    heads = {"heatmaps": "h", "offsets": "o"}
    free = ort.recognize(data, heads=heads)
    assert (free.heads, free.by, free.layout) == (heads, "named by the caller", None)
    assert ort.recognize(data, heads=heads, layout="NHWC").layout == "NHWC"


def test_a_stride_that_is_no_power_of_two_must_be_given() -> None:
    data = build(stride=6)
    session = ort.PoseSession(data)
    assert session.model.output_stride is None
    images = pixels(session)
    with pytest.raises(
        ValueError,
        match=exactly(
            "model: cannot tell the output stride from an input of (1, 3, 33, 49) and heatmaps of (1, 17, 6, 9); "
            "give output_stride="
        ),
    ):
        session.run(images)
    given = ort.PoseSession(data, output_stride=6).run(images)
    stated = ort.PoseSession(build(stride=6, metadata={"posepost.output_stride": "6"}))
    assert (stated.model.output_stride, stated.model.output_stride_by) == (6, "metadata")
    assert np.array_equal(given.keypoints, stated.run(images).keypoints)


def test_an_unknown_activation_must_be_given() -> None:
    data = build(tail="Relu")
    with pytest.raises(
        ValueError,
        match=exactly(
            "model: cannot tell whether heatmaps are logits or scores (made by Relu); "
            'give activation="sigmoid" for logits or activation=None for scores'
        ),
    ):
        ort.PoseSession(data)
    assert ort.PoseSession(data, activation=None).model.activation is None


def test_metadata_gives_mean_std_names_and_size() -> None:
    data = build(
        {"heatmaps": 2, "offsets": 4},
        size=(None, None),
        metadata={
            "posepost.mean": "10, 20, 30",
            "posepost.std": "50",
            "posepost.keypoints": "tip,tail",
            "posepost.input_size": "56,40",
        },
    )
    session = ort.PoseSession(data)
    assert session.model.keypoints == ("tip", "tail")
    assert session.model.normalization_by == "metadata"
    images, transform = session.letterbox(np.full((80, 112, 3), 60, np.uint8))
    assert (images.shape, images.dtype) == ((1, 3, 40, 56), np.float32)
    assert np.allclose(images[0, :, 3, 3], [1.0, 0.8, 0.6])
    assert transform.tolist() == [[2, 0, 0], [0, 2, 0]]
    assert session.letterbox(np.zeros((8, 8, 3), np.uint8), (24, 16))[0].shape == (1, 3, 16, 24)
    given = ort.PoseSession(data, mean=60, std=(1, 2, 3))
    assert given.model.normalization_by == "given"
    assert not given.letterbox(np.full((80, 112, 3), 60, np.uint8))[0].any()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("output_stride", "eight", "model: posepost.output_stride must be a positive integer, got 'eight'"),
        ("input_size", "192", "model: posepost.input_size must be width,height, got '192'"),
        ("keypoints", "a,b", "model: posepost.keypoints must name 17 keypoints, got 2"),
        ("mean", "grey", "model: posepost.mean must be one finite number or three, got 'grey'"),
        ("std", "1,0,1", "model: posepost.std must be above 0, got [1.0, 0.0, 1.0]"),
    ],
)
def test_wrong_metadata(key: str, value: str, message: str) -> None:
    with pytest.raises(ValueError, match=exactly(message)):
        ort.read_model(build(metadata={f"posepost.{key}": value}))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layout": "CHW"}, 'layout must be "NCHW", "NHWC" or None, got \'CHW\''),
        ({"activation": "relu"}, 'activation must be "auto", "sigmoid" or None, got \'relu\''),
        ({"mean": (1, 2)}, "mean must be one finite number or three, got (1, 2)"),
        ({"mean": float("nan")}, "mean must be one finite number or three, got nan"),
        ({"std": 0}, "std must be above 0, got 0"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=exactly(message)):
        ort.PoseSession(build(), **arguments)


def test_corals_posenet_is_one_in_spite_of_its_middle_offsets() -> None:
    heads = {"float_heatmaps": 17, "float_short_offsets": 34, "float_mid_offsets": 64, "float_segments": 1}
    assert ort.recognize(build(heads)).heads == {"heatmaps": "float_heatmaps", "offsets": "float_short_offsets"}
