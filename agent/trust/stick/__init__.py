"""Models on a stick: a folder of files with their signatures, or with a signed index. Nothing of it is executed."""
