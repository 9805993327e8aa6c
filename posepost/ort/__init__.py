"""ONNX pose models through onnxruntime, with their outputs left on the device.

`PoseSession` is for models of the PoseNet kind, which see a whole picture: it loads one, finds its heads, runs it and
decodes what it gives. `TopDownSession` is for models that see a crop of each person, with heatmaps or SimCC.
`recognize` tells which of the two a file is for; `read_model` and `read_topdown` read the graph, which is run once, on
zeros, where it leaves open how large its outputs are. What `read_graph` gives is taken wherever a model is, and
not read again.
Needs the packages onnx and onnxruntime (`pip install "posepost[ort]"`, on a machine with a GPU `"posepost[ort-gpu]"`).

Metadata of a model (`metadata_props`) that is honored: `posepost.mean`, `posepost.std` (one number or three, of the
network's channels in its order, of pixels 0..255), `posepost.channels` (RGB or BGR, what the network expects),
`posepost.output_stride`, `posepost.input_size` (width,height to run at, where the model takes any),
`posepost.keypoints` (names, separated by commas, or the name of one of `posepost.schemes.SCHEMES`). Names are also read
from `keypoint_names` and from ultralytics' `kpt_names`.
"""

from ._describe import describe
from ._families import MOST_PER_CELL
from ._graph import Graph, read_graph, signature
from ._heads import TOPDOWN_SIZE, Recognized, recognize
from ._models import (
    DEFAULT_MEAN,
    DEFAULT_PRESETS,
    DEFAULT_SIZE,
    DEFAULT_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    PRESETS,
    PoseModel,
    TopDownModel,
    input_size,
    multi_person_problem,
    people_to_find,
    read_model,
    read_topdown,
)
from ._nodes import find_activation
from ._posenet_heads import HEADS, Evidence
from ._session import NVIDIA_PROVIDERS, choose_device, cupy_problem, provider_list
from ._shapes import stride_of
from ._source import load_proto
from ._tensors import LAYOUTS, Tensor
from ._topdown_heads import TOPDOWN_HEADS
from .people import BoxWarning, People, Person, PresetWarning
from .posenet import PoseSession
from .topdown import MOST_CROPS, TopDownSession

__all__ = [
    "DEFAULT_MEAN",
    "DEFAULT_PRESETS",
    "DEFAULT_SIZE",
    "DEFAULT_STD",
    "HEADS",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "LAYOUTS",
    "MOST_CROPS",
    "MOST_PER_CELL",
    "NVIDIA_PROVIDERS",
    "PRESETS",
    "TOPDOWN_HEADS",
    "TOPDOWN_SIZE",
    "BoxWarning",
    "Evidence",
    "Graph",
    "People",
    "Person",
    "PoseModel",
    "PoseSession",
    "PresetWarning",
    "Recognized",
    "Tensor",
    "TopDownModel",
    "TopDownSession",
    "choose_device",
    "cupy_problem",
    "describe",
    "find_activation",
    "input_size",
    "load_proto",
    "multi_person_problem",
    "people_to_find",
    "provider_list",
    "read_graph",
    "read_model",
    "read_topdown",
    "recognize",
    "signature",
    "stride_of",
]
