"""The ground of console and gateway: servers, the link to control, published documents, walls of the process."""
