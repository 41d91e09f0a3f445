"""What the user says, validated.

Specs are frozen dataclasses whose rules run when they are made, so that a wrong value fails the same way from Python,
from the command line and from a file. Outside data goes through Pydantic (`specs.validation`), which also gives their
JSON Schema. They are not BaseModels because importing and building those is half of a command's cold start.
"""
