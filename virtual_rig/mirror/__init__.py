"""The local package mirror: an apt repository and a folder of wheels, served to every box."""
