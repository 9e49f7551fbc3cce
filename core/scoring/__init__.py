"""Text normalisers, WER as counts, the criteria and the verdict. Pure: no I/O."""
