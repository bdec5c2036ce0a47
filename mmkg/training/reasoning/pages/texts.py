"""What of a page is said in words: the prompt of a section, controls without a model, rows for a language model."""

from collections import Counter
from collections.abc import Iterator, Sequence

from mmkg.subgraphs.pages import PageSubgraph
from mmkg.tasks.first_sentence import split_first_sentence
from mmkg.tasks.json_files import words
from mmkg.tasks.wikiweb2m import Page
from mmkg.training.reasoning.own_language_model import LanguageRow
from mmkg.training.reasoning.pages.recipe import PagesConfig
from mmkg.training.reasoning.questions import GraphQuestion

INSTRUCTION, CONTEXT = "summarize:", "context:"
_LANGUAGE_WORDS = 60  # of a sentence that a language model of our own learns


def prompt_of(page: Page, found: PageSubgraph, config: PagesConfig) -> str:
    """Return what is read of a section: an instruction, its rest, then behind a marker the caption of its picture.

    Where neighbours stand in words, the other text nodes of the subgraph follow, in order or under their hop from the
    section (the paper's "1-hop neighbours"), each cut to some words. The words of instruction and markers are ours.

    Source: Graph4MM, the input text of the released code; hops in words as in the paper's prompts.
    """
    graph = found.subgraph
    nodes = zip(graph.labels, found.sections, found.own_hop_N.tolist(), graph.is_image.tolist(), strict=True)
    _, *around = [(label, section, hop) for label, section, hop, is_image in nodes if not is_image]
    caption = [label for label, section, _ in around if label and section == found.target]
    others = [
        (_cut(label, config.max_neighbour_words), hop)
        for label, section, hop in around
        if label and section != found.target
    ]
    parts = [INSTRUCTION, page.sections[found.target].rest, *([CONTEXT, *caption] if caption else [])]
    if config.neighbours_in_words == "in_order" and others:
        parts += [*([] if caption else [CONTEXT]), *(label for label, _ in others)]
    if config.neighbours_in_words == "by_hop":
        for hop in sorted({hop for _, hop in others}):
            parts.append(f"{hop}-hop neighbours: {'; '.join(label for label, at in others if at == hop)}")
    return " ".join(parts)


def lead_of(page: Page, target: int) -> str:
    """Return the first sentence of what the section's first sentence is to be written from."""
    return split_first_sentence(page.sections[target].rest)[0]


def about_of(page: Page, target: int) -> str:
    """Return the first sentence of the page's description; its title where that is the sentence that is asked for.

    A page without a description has that of its first section.
    """
    described = split_first_sentence(page.description)[0] if page.description else ""
    first = next((section.first_sentence for section in page.sections if section.first_sentence), "")
    said = described or first
    asked = page.sections[target].first_sentence
    return page.title if not said or words(said).casefold() == words(asked).casefold() else said


def commonest_of(sentences: Sequence[str]) -> str:
    """Return the sentence that stands first in most sections, of equally many the first one."""
    return Counter(sentences).most_common(1)[0][0]


def language_rows(pages: Sequence[Page], valid: Sequence[GraphQuestion]) -> Iterator[LanguageRow]:
    """Rows for a language model of our own: every sentence alone, of the pages to learn from.

    Which sentence stands before which rest is for the run to learn.

    Args:
        pages: to learn from; no other page is read.
        valid: whose answers it is measured by.
    """
    for page in pages:
        for text in (page.title, page.description, *(section.text for section in page.sections)):
            for sentence in _sentences(text):
                yield "train", "statement", "", _cut(sentence, _LANGUAGE_WORDS)
    for one in valid:
        yield "valid", "statement", "", _cut(one.answer, _LANGUAGE_WORDS)


def _sentences(text: str) -> Iterator[str]:
    """The sentences of a text, line by line."""
    for line in text.splitlines():
        rest = line
        while rest.strip():
            sentence, rest = split_first_sentence(rest)
            if sentence:
                yield sentence


def _cut(text: str, most: int) -> str:
    return " ".join(text.split()[:most])
