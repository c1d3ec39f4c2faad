"""What every training shares: tasks, backbones, rates, callbacks."""
