"""What the filter does, to look at: in a browser (viser), as one page to share, in a terminal."""
