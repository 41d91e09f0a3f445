"""A training step: model states, activations, the timeline of its moments, and what would make it fit."""
