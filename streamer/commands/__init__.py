"""The commands of ``hpstm`` that belong to the live filter, one file each."""
