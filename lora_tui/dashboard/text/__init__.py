"""What the screens say, as lines of cells and words. Pure: no widget, no thread."""
