"""The one table of tolerances. Whatever is computed with + - * / alone is compared for equality."""

SIGMOID_RTOL = 4e-7
"""Kernel against NumPy, scores through a sigmoid: expf of CUDA and of glibc, exp of NumPy differ by up to 2 ulp."""

SIGMOID_ATOL = 1.2e-38
"""GPUs flush denormal results of the sigmoid to 0 (-ftz=true): the smallest normal float32."""

EXACT_HEADS = ("mmpose_msra", "hrnet", "mmdeploy", "higherhrnet", "trt_pose", "openpose", "sleap")
"""Presets of decode_heatmap that take no exponential and no logarithm: kernel and NumPy are equal."""

BLURRED_SIGMOID_RTOL = 1e-6
"""Kernel against NumPy, scores of "udp_combined" through a sigmoid: a sum of up to 35 x 35 such scores, in one order on
both sides, which rounds otherwise where a term does."""

CENTROID_ATOL = 4e-7
"""Kernel against NumPy, centroids of scores through a sigmoid, in cells and per cell of the window's reach: a mean
moves by no more than its weights, relatively, times how far they lie."""

DARK_RTOL = 3e-5
"""Kernel against NumPy, DARK and DARK-UDP, in cells and per cell of the step: logf of CUDA, glibc and NumPy differ by
up to 2 ulp, and a Hessian of well-formed peaks multiplies that by about a hundred. Where the Hessian itself is
rounding, in flat or saturated surroundings, nothing but the length of the step is bounded: docs/numerics.md."""

SOFT_ATOL = 1e-6
"""Kernel against NumPy, soft-argmax, in parts of the map's longer side: exponentials as above, and another order of
sums."""


VISIBILITY_RTOL = 2e-6
"""decode_simcc's visibility, kernel against NumPy and either against float64: exponentials as above, of differences
times beta * sigma, whose rounding grows with the exponent, and another order of sums."""

RESULT_RTOL = 1.2e-7
"""Of every point beside its tolerance in cells: what is added and multiplied behind the cell rounds once more."""
