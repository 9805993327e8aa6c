"""posepost decodes the outputs of pose networks where they lie: on the GPU, by CUDA kernels launched through CuPy.

Only the keypoints, 12 bytes each, cross the bus. The same call on host arrays runs the NumPy twin in `posepost.ref`.
"""

from .peaks import find_peaks
from .posenet import decode_posenet
from .posenet_multi import decode_posenet_multi
from .types import Keypoints, Peaks, Poses, pinned

__version__ = "0.1.0"

__all__ = ["Keypoints", "Peaks", "Poses", "decode_posenet", "decode_posenet_multi", "find_peaks", "pinned"]
