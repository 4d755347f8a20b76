"""Which classifiers are explained at the right layer: small members of every family, measured one by one."""
