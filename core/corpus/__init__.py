"""The embedded speech, made from a recipe: texts, voices and noise, all seeded."""
