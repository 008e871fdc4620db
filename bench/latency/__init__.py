"""How long one frame takes in this process, by runtime and stage."""
