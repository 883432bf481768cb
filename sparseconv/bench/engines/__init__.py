"""Other libraries' layers and nets, made of ours: same sites, features and weights."""
