"""Hand the frames of either engine to Arrow kernels."""
