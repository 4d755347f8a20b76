"""What docs/EXAMPLES.md says, measured anew: `python -m benchmarks.examples [--shared FOLDER] [--to FILE]`."""
