"""A package, so that a fixture can end with its last test."""
