"""Control's composition root: builds the parts, starts what sends before what captures, and stops in reverse."""
