"""The roles of a group on Kafka, each a process of its own: worker, api. Put together as ``dev.py`` puts all in one."""
