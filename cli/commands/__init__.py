"""The commands, a module each: it reads the options, calls the modules of the folder above, and prints."""
