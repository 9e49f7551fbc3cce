"""What to run: the plan's schema, sweeps, conditions, identity and `next_action`. Pure: no I/O."""
