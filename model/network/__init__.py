"""The causal filter itself: front (no weights), Transformer over a ring of frames, any-time pose head."""
