"""The supervisor, which alone starts and stops trainers, and the wishes it reads."""
