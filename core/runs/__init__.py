"""The run folder: paths, events, snapshots, evidence and the run matrix."""
