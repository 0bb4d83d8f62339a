"""Commands that are processes of a group, and what is asked before they are started."""
