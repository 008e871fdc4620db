"""The server measured from outside: latency over the wire, crowds, days of uptime."""
