"""Dose of photon beams: ray tracing, kernels and the dose influence operator."""
