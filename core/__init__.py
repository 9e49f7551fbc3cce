"""The engine of lora-tui: plans, audio, manifests, audits, scoring, run folders, the queue, the trainer.

It prints nothing outside `core.cli`.
"""

OWNER = "lora-tui"
"""Whose `core` this is: others call a package so, too (`lora_tui.entry`)."""
