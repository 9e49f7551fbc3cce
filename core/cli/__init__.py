"""`lora-cli`: transcribe and evaluate with the arithmetic of the trainer."""
