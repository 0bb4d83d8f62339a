"""Commands for who operates a group: its topics, lanes and schemas."""
