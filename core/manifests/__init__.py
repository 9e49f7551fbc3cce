"""Manifests: reading, writing, hashing, decoding what they name, and other tools' formats."""
