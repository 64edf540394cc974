"""Hold what models of diffusions share: the config of their network, the network, and what it models."""
