"""Estimate → table, JSON, CSV, Markdown, SVG. Renderers lay out; they never compute."""
