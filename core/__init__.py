"""The engine of lora-tui: plans, audio, manifests, audits, scoring, run folders, the queue, the trainer.

It prints nothing outside `core.cli`.
"""
