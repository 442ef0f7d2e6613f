"""What the library knows about architectures: layouts, layers, dual encoders, loading."""
