"""The tables: typed records and every write to them."""
