"""``hpstm bench all``: every measured table and picture of the documents, from stored results into its place."""
