"""Where frames come from: a ZeroMQ publisher (sender), recorded files (replay), procedural motion (synthetic)."""
