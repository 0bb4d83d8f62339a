"""Flow control: as it is registered, as an operator overrides it, and the rows and messages of its gates."""
