"""The faces of lora-tui: the dashboard and the headless gate.

They read run folders and submit plans; they never train.
"""
