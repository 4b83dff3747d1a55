"""The application, sans-IO: accounts, rooms, sessions and the requests that front ends make."""
