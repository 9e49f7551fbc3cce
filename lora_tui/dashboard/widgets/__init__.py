"""Widgets that several screens use: lines of outside text, the footer, a field to type in."""
