"""The Textual dashboard. It reads run folders in a thread, draws frozen snapshots, asks the queue; it never trains."""
