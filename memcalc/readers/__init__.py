"""Foreign files → architectures and specs. Every byte that enters memcalc from outside passes here."""
