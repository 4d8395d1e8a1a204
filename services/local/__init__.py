"""The embedded default: `rigmesh up` runs a whole Rigmesh on one machine, with a database cluster of its own."""
