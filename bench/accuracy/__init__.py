"""How far poses are from the truth, beside what people use today."""
