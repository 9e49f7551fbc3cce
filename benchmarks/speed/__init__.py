"""How fast training steps and evaluations are beside others that do the same work; docs/speed.md has the figures.

`turns.py` is what the measurements have in common: contestants that are processes of their own and take turns.
"""
