"""The signed index of models, in TUF's metadata; verified by `tuf.api.metadata`, and kept on the device."""
