"""Audio, RMS normalisation, manifests, the sample cache and the embedded corpus. NumPy; never torch."""
