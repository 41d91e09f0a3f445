"""Memory per GPU of serving: weights as stored, what the engine allocates, the cache of all requests, and how many fit."""
