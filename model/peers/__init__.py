"""What the live filter is compared with: the offline windowed model and SmoothNet, and their training."""
