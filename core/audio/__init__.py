"""From a sound file to 16 kHz samples: the one audio path, its proof, the cache of decoded clips. NumPy; no torch."""
