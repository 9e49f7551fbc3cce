"""Trainers as jobs of a Slurm cluster."""
