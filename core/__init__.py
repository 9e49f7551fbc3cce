"""The engine of lora-tui: plans, speech, scoring, run folders, the queue, the trainer.

It prints nothing outside `core.cli`.
"""
