"""From a sensor's sample to an answer: the ingest stream, lanes, blocks, and reads."""
