"""The twelve sections, each from the facts of the week."""
