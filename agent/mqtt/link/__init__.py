"""Connection to the broker. Beside it only blocking_client connects by paho."""
