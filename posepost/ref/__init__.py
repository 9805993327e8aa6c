"""The NumPy implementation of every decoder: arithmetic alone, given arrays and a rule.

It is the specification of the kernels, and what `posepost.decode_*` runs for arrays in host memory.
"""
