"""Recognising recordings by what they sound like, whatever was cut, resampled or mixed in."""
