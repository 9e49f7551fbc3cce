"""The data audit: whether manifests can fool a verdict, and sets that are drawn from a pool so that they cannot."""
