"""Language models joined to towers that see or hear: the towers, what stands between, and the families."""
