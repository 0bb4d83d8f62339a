"""What the door is made of: its state, and each of its parts. Handlers of routes are one room up."""
