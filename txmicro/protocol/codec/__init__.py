"""The formats of messages' bodies: JSON, BSON and MessagePack, which carry the same values.

A body is an object (a dict) at the top. Every format carries:

- None, bools, text, floats (NaN and the infinities too), integers of up to 14,280 bits (4,298 digits);
- bytes; ``bytearray`` and ``memoryview`` arrive as bytes;
- datetimes: they arrive in UTC, and a naive one counts as UTC. BSON keeps milliseconds, the others microseconds;
- lists (tuples arrive as lists) and dicts, at least 100 levels deep. Keys are of any of these types; a tuple that is a
  key arrives as a tuple.

BSON also carries the types of pymongo's ``bson`` that the other formats do not have, such as ``ObjectId``. MessagePack
also carries its extension types. Anything else raises :class:`~txmicro.errors.EncodeError`: no value silently becomes
text, and nothing that is decoded can execute.

A value that a format cannot express travels as an object with one reserved key. The first three are those of
`MongoDB Extended JSON <https://www.mongodb.com/docs/manual/reference/mongodb-extended-json/>`_, version 2:

=================================================  ========================================================
``{"$binary": {"base64": "…", "subType": "00"}}``  bytes in JSON
``{"$date": "2026-11-23T17:49:35.123456Z"}``       a datetime in JSON
``{"$numberDouble": "NaN"}``                       NaN, ``Infinity`` and ``-Infinity`` in JSON
``{"$integer": "18446744073709551616"}``           an integer of over 64 bits in BSON and MessagePack
``{"$map": [[key, value], …]}``                    a dict with keys that are not text, or a dict of the
                                                   program's that looks like one of these
=================================================  ========================================================

So a program's own ``{"$binary": 1}`` arrives unchanged, and other ``$`` keys travel as they are. The usual body needs
one call of a codec in C. The second, slower pass is for values that this call refuses, and for a ``$`` that looks
reserved.
"""
