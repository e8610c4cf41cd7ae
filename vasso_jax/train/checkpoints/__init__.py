"""What a run saves of its state: checkpoints, their pace, and weights read from them."""
