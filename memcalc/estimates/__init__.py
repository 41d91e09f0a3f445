"""Specs + blocks + formulas → estimates: totals, and one named line for everything that occupies memory."""
