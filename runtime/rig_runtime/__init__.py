"""Plan GPU sets, explain them, and serve models on them."""
