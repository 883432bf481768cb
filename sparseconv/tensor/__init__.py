"""Where the features live: sparse tensors, their topology, and rulebooks."""
