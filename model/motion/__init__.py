"""Motion to train and test on: endless new motion from clips, and procedural motion."""
