"""The radio, as the kernel, its tools and the supplicant describe it."""
