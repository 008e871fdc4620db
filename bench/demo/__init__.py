"""``hpstm demo``: the whole product in 15 seconds."""
