"""A real Slurm cluster on this machine, and what happens to runs on it when its parts are killed."""
