"""`changeover bench gateway`: a line beside clients that ask as fast as they can, and the gateway's own time."""
