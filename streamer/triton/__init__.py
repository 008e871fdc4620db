"""Serving by NVIDIA's Triton Inference Server: a model repository around a PoseFilter, and what runs in it."""
