"""Manifests: reading, writing, hashing, decoding what they name, and other tools' formats.

The names of these formats stand here, so that the help of the command that imports them stays quick.
"""

IMPORT_KINDS = ("nemo", "kaldi", "ljspeech", "commonvoice", "audiofolder", "arrays")
TEXT_COLUMN_KINDS = ("ljspeech", "commonvoice", "audiofolder")
"""Those that are tables, of which a column may be named."""
