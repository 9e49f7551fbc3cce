"""The formats that manifests are made of. Imports nothing, so that the command's help stays quick."""

from __future__ import annotations

IMPORT_KINDS = ("nemo", "kaldi", "ljspeech", "commonvoice", "audiofolder", "arrays")
TEXT_COLUMN_KINDS = ("ljspeech", "commonvoice", "audiofolder")
"""Those that are tables, of which a column may be named."""
