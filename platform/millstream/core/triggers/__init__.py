"""What starts a function: names, wildcards, expressions and crons, and what is wrong with them."""
