"""SHACL over a finished graph that is small enough to be held in memory; a part of ``validate.py``."""

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import rdflib
from pyshacl import validate
from pyshacl.errors import ReportableRuntimeError, ShapeLoadError, ValidationFailure
from rdflib.namespace import RDF, SH

from mmkg.config import Config
from mmkg.errors import ConfigError
from mmkg.graph.export import export_statements
from mmkg.tables import FINDINGS

logger = logging.getLogger(__name__)


def find_shape_violations(config: Config, graph_folder: Path, num_statements: int) -> pa.Table:
    """Try the shapes of a config on a graph.

    Args:
        config: ``checks.shapes``, and ``checks.shacl_max_triples`` beyond which they are not tried.
        graph_folder: folder of the stage that built the graph.
        num_statements: triples, literals and types of the graph.

    Returns:
        Rows of `findings`: `shacl` for each result, or `shacl_not_run` for each file of shapes.

    Raises:
        ConfigError: a file of shapes is missing, is not Turtle, or holds what is no shape.
    """
    checks = config.checks
    if not checks.shapes:
        return FINDINGS.empty_table()
    if num_statements > checks.shacl_max_triples:
        detail = (
            f"the graph has {num_statements:,} statements, checks.shacl_max_triples is {checks.shacl_max_triples:,}"
        )
        logger.warning("SHACL was not run: %s", detail)
        return _to_table(("shacl_not_run", Path(shapes).name, detail) for shapes in checks.shapes)
    shapes = [(Path(path), _read_shapes(Path(path))) for path in checks.shapes]
    with tempfile.TemporaryDirectory(prefix="mmkg-shacl-") as spill:
        path = Path(spill) / "statements.nt"
        # Small enough for this machine, so never by Spark: whose cluster does not see this folder.
        export_statements(graph_folder, path, engine=config.graph.model_copy(update={"engine": "duckdb"}))
        graph = _read_statements(path)
    return _to_table(row for file, shape_graph in shapes for row in _validate(graph, file, shape_graph))


def _read_shapes(path: Path) -> rdflib.Graph:
    try:
        return rdflib.Graph().parse(path, format="turtle")
    except FileNotFoundError as error:
        raise ConfigError(f"checks.shapes: {path}: no such file.") from error
    except Exception as error:  # rdflib's parser raises its own BadSyntax, and bare ValueErrors
        raise ConfigError(f"checks.shapes: {path}: not a Turtle file: {error}") from error


def _read_statements(path: Path) -> rdflib.Graph:
    """Read an export without the traceback that rdflib logs for every literal such as "12 km"^^xsd:integer."""
    terms = logging.getLogger("rdflib.term")
    level = terms.level
    terms.setLevel(logging.ERROR)
    try:
        return rdflib.Graph().parse(path, format="nt")
    finally:
        terms.setLevel(level)


def _validate(graph: rdflib.Graph, file: Path, shapes: rdflib.Graph) -> Iterator[tuple[str, str, str]]:
    try:
        _, report, _ = validate(graph, shacl_graph=shapes, inference="none", advanced=True, allow_warnings=True)
    except (ShapeLoadError, ReportableRuntimeError) as error:
        raise ConfigError(f"checks.shapes: {file}: {error}") from error
    if isinstance(report, ValidationFailure):
        raise ConfigError(f"checks.shapes: {file}: {report.message}")
    for result in report.subjects(RDF.type, SH.ValidationResult):
        focus = report.value(result, SH.focusNode)
        subject = f"_:{focus}" if isinstance(focus, rdflib.BNode) else str(focus)
        yield "shacl", subject, _tell(report, result)


def _tell(report: rdflib.Graph, result: rdflib.term.Node) -> str:
    """What a result says: severity, path, message and the value that is wrong."""
    severity = str(report.value(result, SH.resultSeverity)).removeprefix(str(SH))
    path, value = report.value(result, SH.resultPath), report.value(result, SH.value)
    message = " ".join(sorted(str(text) for text in report.objects(result, SH.resultMessage)))
    where = f" of <{path}>" if isinstance(path, rdflib.URIRef) else ""
    found = "" if value is None else f" Found: {value.n3()}"
    return f"{severity}{where}: {message}{found}"


def _to_table(rows: Iterator[tuple[str, str, str]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    return pa.table([pa.array(column, type=pa.string()) for column in columns], schema=FINDINGS)
