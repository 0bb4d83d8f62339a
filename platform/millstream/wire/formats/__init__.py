"""Records of topics that know nothing of millstream: how their values, ids, names and times are read.

    reading.py      one record to its content: the one entrance; picks the format
    framing.py      which schema wrote a value: marks in front of it or in headers
    avro_value.py   a value and its schema to JSON
    cloudevents.py  CloudEvents 1.0, binary and structured
    debezium.py     change envelopes

Add a format: a module here with a function to ``Content``, one line in ``reading.READERS``, a row in
docs/how-to/subscribe-to-a-topic.md.
"""
