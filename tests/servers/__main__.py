"""Fetch the servers of the tests beforehand: ``python -m tests.servers``."""

from tests.servers.fuseki import find_jar
from tests.servers.neo4j import jars

if __name__ == "__main__":
    print(jars(), find_jar(), sep="\n")
