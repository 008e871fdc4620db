"""Where poses go: a latest-only ZeroMQ subscriber (subscriber), files (recording)."""
