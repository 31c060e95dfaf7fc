"""Inner loops for CPU (numba) and GPU (Triton) behind one function each: spanning trees, distances,
neighbours.
"""
