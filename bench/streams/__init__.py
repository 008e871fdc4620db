"""``hpstm bench streams``: what real sources send, case by case, with known truth and a bar for each."""
