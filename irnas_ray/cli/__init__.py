"""How a command line becomes typed settings; the only place that knows Hydra."""
