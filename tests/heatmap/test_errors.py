"""decode_heatmap and its values: bad input, word for word, on host and device."""

from __future__ import annotations

import numpy as np
import pytest

import posepost
from bench.arrays import VIEWS
from bench.cuda_cpu.seam import ExecutorCuda, to_device
from posepost._rules.heatmap import PRESETS

from ..helpers import with_flip

pytestmark = pytest.mark.usefixtures("fresh_plans")


BY_LAYOUT = {layout: [name for name, (of, _) in VIEWS.items() if of == layout] for layout in ("NCHW", "NHWC")}


H = np.zeros((1, 6, 4, 5), np.float32)


HEADS = '"none", "quarter", "dark", "dark_udp", "udp_combined", "megvii", "centroid", "soft_argmax" or "offset"'


NAMES = ", ".join(f'"{name}"' for name in list(PRESETS)[:-1]) + f' or "{list(PRESETS)[-1]}"'


BAD = [
    ({"refine": "taylor"}, ValueError, f"refine must be {HEADS}, got 'taylor'"),
    ({"preset": "alphapose"}, ValueError, f"preset must be {NAMES}, got 'alphapose'"),
    ({"scaling": "align"}, ValueError, 'scaling must be "msra" or "udp", got \'align\''),
    ({"layout": "CHW"}, ValueError, 'layout must be "NCHW", "NHWC" or "NCDHW", got \'CHW\''),
    ({"layout": None}, ValueError, 'layout must be "NCHW", "NHWC" or "NCDHW", got None'),
    ({"threshold": "low"}, TypeError, "threshold must be a number, got str"),
    ({"absent": [0, 0]}, TypeError, "absent must be a number, got list"),
    ({"input_size": 256}, TypeError, "input_size must be (w, h), got 256"),
    ({"input_size": (256,)}, ValueError, "input_size must be (w, h), got (256,)"),
    ({"input_size": (256, 0)}, ValueError, "input_size must be finite and above 0, got (256, 0)"),
    ({"input_size": [192, "x"]}, TypeError, "input_size must be (w, h), got [192, 'x']"),
    ({"refine": posepost.Offset(7.28)}, ValueError, "input_size must be given with a scale of offsets, whose unit is pixels of the input, got None"),  # noqa: E501
    ({"flip": H}, TypeError, "flip must be None or posepost.Flip(maps, pairs), got ndarray"),
    ({"flipped": H, "pairs": [0, 1]}, ValueError, "flip.pairs must name the partner of each of 6 keypoints, got 2"),
    ({"flipped": H[:, :5], "pairs": range(6)}, ValueError, "flip.maps must have the shape of heatmaps, got shapes (1, 5, 4, 5) and (1, 6, 4, 5)"),  # noqa: E501
    ({"flipped": H.astype(np.float16), "pairs": range(6)}, TypeError, "flip.maps must have the dtype of heatmaps, got float16 and float32"),  # noqa: E501
    ({"flipped": H, "flipped_offsets": H, "pairs": range(6)}, ValueError, "flip.offsets must be given where flip and offsets are, got it without offsets"),  # noqa: E501
    ({"blur": 13}, TypeError, "decode_heatmap() has no argument 'blur': it is now refine=posepost.Dark(blur=...), or DarkUDP, UDPCombined, Megvii"),  # noqa: E501
    ({"flip_pairs": (0, 1)}, TypeError, "decode_heatmap() has no argument 'flip_pairs': it is now flip=posepost.Flip(maps, pairs)"),  # noqa: E501
    ({"color": 1}, TypeError, "decode_heatmap() got an unexpected keyword argument 'color'"),
    ({"offsets": H}, ValueError, "offsets must be given with refine=\"offset\" alone, got refine='none'"),
    ({"refine": "offset"}, ValueError, 'offsets must be given with refine="offset", got None'),
    ({"refine": "offset", "offsets": H}, ValueError, "offsets must have two channels a keypoint (x, y) on the same maps, got shapes (1, 6, 4, 5) and (1, 6, 4, 5)"),  # noqa: E501
    ({"heatmaps": H[:, :5], "refine": "udp_combined"}, ValueError, "heatmaps must have three channels a keypoint (class, x, y) for udp_combined, got 5"),  # noqa: E501
    ({"heatmaps": H[0, 0]}, ValueError, "heatmaps must have 3 or 4 dimensions, got shape (4, 5)"),
    ({"heatmaps": H, "layout": "NCDHW", "refine": "dark"}, ValueError, "refine must be \"none\" for volumes (layout \"NCDHW\"), got 'dark'"),  # noqa: E501
    ({"heatmaps": H[None, :, :2], "layout": "NCDHW", "transform": np.eye(2, 3)}, ValueError, "transform must be None for volumes, whose points have three coordinates"),  # noqa: E501
    ({"heatmaps": H[:, :0]}, ValueError, "heatmaps must have at least one channel, row and column, got shape (1, 0, 4, 5)"),  # noqa: E501
    ({"heatmaps": H.astype(np.int32)}, TypeError, "heatmaps must be float32, float16, bfloat16, uint8 or int8, got int32"),  # noqa: E501
    ({"heatmaps": H.astype(np.uint8)}, ValueError, "quantization must give (scale, zero_point) of heatmaps, which is uint8, got None"),  # noqa: E501
    ({"transform": np.eye(3)}, ValueError, "transform must have shape (2, 3) or (1, 2, 3), got (3, 3)"),
    ({"activation": "relu"}, ValueError, "activation must be \"sigmoid\" or None, got 'relu'"),
    ({"out": ()}, TypeError, "out must be a result of the same call or a tuple (keypoints, scores), got 0 arrays"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "error", "message"), BAD, ids=[message[:60] for _, _, message in BAD])
def test_bad_input(cpu_cuda: ExecutorCuda, options: dict, error: type, message: str) -> None:
    for place in (np.asarray, to_device):
        given = {
            name: place(value) if name in ("heatmaps", "flipped", "flipped_offsets", "offsets") else value
            for name, value in options.items()
        }
        with pytest.raises(error) as caught:
            posepost.decode_heatmap(**with_flip({"heatmaps": place(H)}, given))
        assert str(caught.value) == message
    assert not cpu_cuda.launches


BAD_VALUES = [
    (posepost.Quarter, {"guard": "none"}, ValueError, 'guard must be "mmpose", "hrnet" or "higherhrnet", got \'none\''),
    (posepost.Dark, {"border": "wrap"}, ValueError, 'border must be "zero", "reflect" or "reflect_101", got \'wrap\''),
    (posepost.Dark, {"blur": 10}, ValueError, "blur must be odd and from 1 to 27, got 10"),
    (posepost.Dark, {"blur": 29}, ValueError, "blur must be odd and from 1 to 27, got 29"),
    (posepost.Dark, {"blur": 11.0}, TypeError, "blur must be an int, got float"),
    (posepost.Dark, {"blur_sigma": 0}, ValueError, "blur_sigma must be finite and above 0, got 0"),
    (posepost.DarkUDP, {"blur": 31}, ValueError, "blur must be odd and from 1 to 29, got 31"),
    (posepost.UDPCombined, {"blur": 19}, ValueError, "blur must be odd and from 1 to 17, got 19"),
    (posepost.Megvii, {"blur": 37}, ValueError, "blur must be odd and from 1 to 35, got 37"),
    (posepost.Centroid, {"window": 4}, ValueError, "window must be odd and from 1 to 31, got 4"),
    (posepost.SoftArgmax, {"temperature": 0}, ValueError, "temperature must be finite and above 0, got 0"),
    (posepost.SoftArgmax, {"temperature": -1.5}, ValueError, "temperature must be finite and above 0, got -1.5"),
    (posepost.SoftArgmax, {"temperature": "hot"}, TypeError, "temperature must be a number, got str"),
    (posepost.SoftArgmax, {"window": 33}, ValueError, "window must be odd and from 1 to 31, got 33"),
    (posepost.SoftArgmax, {"window": 5, "debias": True}, ValueError, "debias must be False with a window, got window=5"),  # noqa: E501
    (posepost.Offset, {"scale": "7"}, TypeError, "scale must be a number, got str"),
    (posepost.Flip, {"maps": H, "pairs": [0, 1, 2, 3, 5, 5]}, ValueError, "pairs must hold each of 0 to K - 1 once, got [0, 1, 2, 3, 5, 5]"),  # noqa: E501
    (posepost.Flip, {"maps": H, "pairs": "lr"}, TypeError, "pairs must be a sequence of ints, got 'lr'"),
    (posepost.Flip, {"maps": H, "pairs": ([1], 0)}, TypeError, "pairs must be a sequence of ints, got ([1], 0)"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "fields", "error", "message"), BAD_VALUES, ids=[m[:60] for *_, m in BAD_VALUES])
def test_a_value_checks_its_own_fields(kind: type, fields: dict, error: type, message: str) -> None:
    with pytest.raises(error) as caught:
        kind(**fields)
    assert str(caught.value) == message


def test_a_refinement_has_no_options_of_another() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'temperature'"):
        posepost.Dark(temperature=0.1)
    with pytest.raises(TypeError, match="decode_heatmap\\(\\) has no argument 'blur'"):
        posepost.decode_heatmap(H, refine="none", blur=13, temperature=0.1)
