"""What touches the machine: sockets, interfaces, the disk, the clock, the control socket."""
