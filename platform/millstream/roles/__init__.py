"""The roles of a group on Kafka, a process each: worker, api, history. Put together as ``dev.py`` puts all in one."""
