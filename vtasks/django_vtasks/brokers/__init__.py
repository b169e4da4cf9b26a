"""Where tasks wait: one contract, one package or module per store."""
