"""What every room needs of the operating system: bounded files, kernel locks, which process is meant. Knows no run."""
