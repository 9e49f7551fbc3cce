"""Plots: from a run's curves to lines of cells, and the widget that shows them."""
