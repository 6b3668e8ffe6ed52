"""Parts of models, data and tasks that configs name, as `mypaper.attention.DistanceAttention`."""
