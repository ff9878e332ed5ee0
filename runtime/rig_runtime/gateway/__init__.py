"""The one HTTP front: OpenAI's API over every served model, and a control socket for this machine.

front.py    request ids, keys, access log: what every request passes
api.py      the routes
forward.py  one request to an engine and its answer back, streamed or not
events.py   whole server-sent events out of a stream of bytes
errors.py   the one table from cause to HTTP status, type and text
keys.py     API keys, hashed at rest
control.py  what `rig-runtime status` asks
server.py   sockets and the ASGI server
"""
