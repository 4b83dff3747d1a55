"""Makes the packages for OpenWrt without its SDK: the same bytes from the same commit, on any machine."""
