"""What the reader thread reads from files, and the frozen snapshots that it hands to the screens."""
