"""Reports: one `Report`, assembled once, and the formats that render it. Each escapes for itself."""
