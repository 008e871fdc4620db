"""What pose estimators and mocap systems do to a clean stream."""
