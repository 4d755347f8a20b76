"""Cards a stranger can rely on: what the head and the text of a README.md say, from the records of what was made."""
