"""How long single operators take: laws with few constants per accelerator and number format, in seconds."""
