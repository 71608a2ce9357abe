"""The two tables: typed records and every write to them."""
