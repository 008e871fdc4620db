"""The filter as a process: sockets, control, metrics. server.py has the data path."""
