"""GPUs: what NVML says of them, which of them are free, and the locks that say which have a trainer."""
