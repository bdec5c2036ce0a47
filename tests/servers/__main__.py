"""Fetch the servers of the tests beforehand, and see to it that they start fast: ``python -m tests.servers``."""

import tempfile
from pathlib import Path

from tests.servers.fuseki import find_jar
from tests.servers.neo4j import jars, keep_classes

if __name__ == "__main__":
    print(jars(), find_jar(), sep="\n")
    with tempfile.TemporaryDirectory(prefix="mmkg-neo4j-") as folder:
        keep_classes(Path(folder))
