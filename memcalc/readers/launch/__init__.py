"""Launch files of other programs → facts → settings: one small module a kind over one table of facts."""
