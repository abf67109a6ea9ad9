"""What console and gateway stand on: servers, the link to control, published documents, walls of the process."""
