"""Children of control: how they are started, spoken to, watched and ended. Knows no concrete child."""
