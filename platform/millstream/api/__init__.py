"""The door: where events and requests come in over HTTP. ``server.py`` lists the routes, a module for each noun."""
