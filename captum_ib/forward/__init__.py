"""What any method does with a forward function: checked calls, targets, layers, pairs."""
