"""The commands by what they are for; each reads its options, calls the modules beside this folder, and prints."""
