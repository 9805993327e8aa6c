"""posepost decodes the outputs of pose networks in place: on the GPU, by CUDA kernels launched through CuPy.

Only the keypoints, 12 bytes each, cross the bus. The same call on host arrays runs the NumPy implementation.
"""

from ._cuda import release_memory
from ._rules.flip import Flip
from ._rules.refinement import Centroid, Dark, DarkUDP, Megvii, Offset, Quarter, SoftArgmax, UDPCombined
from .crops import box_to_crop, crop_to_image, letterbox_to_image
from .heatmap import decode_heatmap
from .peaks import find_peaks
from .posenet import decode_posenet
from .posenet_multi import decode_posenet_multi
from .schemes import Scheme, keypoint_scheme
from .simcc import decode_simcc
from .types import Keypoints, Peaks, Poses, pinned

__version__ = "0.1.0"

__all__ = [
    "Centroid",
    "Dark",
    "DarkUDP",
    "Flip",
    "Keypoints",
    "Megvii",
    "Offset",
    "Peaks",
    "Poses",
    "Quarter",
    "Scheme",
    "SoftArgmax",
    "UDPCombined",
    "box_to_crop",
    "crop_to_image",
    "decode_heatmap",
    "decode_posenet",
    "decode_posenet_multi",
    "decode_simcc",
    "find_peaks",
    "keypoint_scheme",
    "letterbox_to_image",
    "pinned",
    "release_memory",
]
