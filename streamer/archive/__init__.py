"""Folders of takes, refined offline: what a file holds, the filter over it in both directions, many files at once."""
