"""What docs/PROTOTYPES.md says, measured anew: `python -m benchmarks.prototypes [--only PART ...] [--to FILE]`."""
