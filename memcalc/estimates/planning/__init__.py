"""Which layouts there are to choose from, which of them fit, and which of these is the fastest or the cheapest."""
