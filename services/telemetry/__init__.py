"""From a sensor's sample to an answer. What both ways share lies here: series as arrays, blocks, profile mappings."""
