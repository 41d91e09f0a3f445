"""Memory per GPU of serving: weights as stored, what the engine allocates, the cache of all requests, and how many fit."""

from memcalc.estimates.serving.estimate import Capacity, ServingEstimate, estimate
from memcalc.estimates.serving.speed import Speed, speed

__all__ = ["Capacity", "ServingEstimate", "Speed", "estimate", "speed"]
