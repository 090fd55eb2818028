"""The nouns of a run, and the run folder they are written to and read from."""
