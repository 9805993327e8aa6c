"""The one table of tolerances. Whatever is computed with + - * / alone is compared for equality."""

SIGMOID_RTOL = 4e-7
"""Kernel against twin, scores through a sigmoid: expf of CUDA and of glibc, exp of NumPy differ by up to 2 ulp."""

SIGMOID_ATOL = 1.2e-38
"""GPUs flush denormal results of the sigmoid to 0 (-ftz=true): the smallest normal float32."""

VISIBILITY_RTOL = 2e-6
"""decode_simcc's visibility, kernel against twin and either against float64: exponentials as above, of differences
times beta * sigma, whose rounding grows with the exponent, and another order of sums."""
