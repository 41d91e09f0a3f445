"""Pure arithmetic, each function with its formula, units and source. No I/O, no Pydantic, no printing."""
