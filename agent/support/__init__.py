"""The archive of `changeover support`, without secrets. May import every other room."""
