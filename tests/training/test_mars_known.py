"""What is known of the candidates of MARS without a graph: by hand, and as if what is learnt had never been said."""

import re
from collections import Counter

import numpy as np
import pytest
import torch

from mmkg.errors import ConfigError
from mmkg.tasks.mars import MarKG
from mmkg.training.reasoning.mars.graph import Question
from mmkg.training.reasoning.mars.known import LIKENESS_GAIN, CandidateKnowledge
from mmkg.training.reasoning.mars.words import SharedWords

CANDIDATES = np.array([5, 3, 0, 1])
QUESTIONS = [
    Question(head=0, tail=3, question=2, answer=5, relation=7, own_count=2),
    Question(head=2, tail=5, question=4, answer=3, relation=7, own_count=1),
    Question(head=4, tail=5, question=0, answer=3, relation=8, own_count=3),
]
FACTS = sorted({fact for question in QUESTIONS for fact in question.facts})  # (0, 3) under two relations: one stays
COUNTS = Counter({5: 4, 3: 6, 1: 1})


NAMES = ("song", "lullaby", "Cradle Song", "dog", "Little dog", "\u2014")
SAID = ("set of sounds that are sung", "soothing song, usually sung", None, "kind of animal", "song of a dog", "a dash")
MARKG = MarKG(
    entity_ids=("Q0", "Q1", "Q2", "Q3", "Q4", "Q5"),
    names=NAMES,
    descriptions=SAID,
    relation_ids=("P1",),
    relation_names=("is",),
    relation_descriptions=(None,),
    triples=np.array([[0, 0, 1]]),
    rejects=(),
)


def vectors(random_seed):
    rows = np.random.default_rng(random_seed).normal(size=(6, 4)).astype(np.float32)
    rows[1] = 0  # an entity without text
    return rows


def known(facts=FACTS, counts=COUNTS):
    return CandidateKnowledge(
        MARKG,
        (vectors(0), vectors(1)),
        CANDIDATES,
        answer_counts=Counter(counts),
        facts=facts,
        sample=QUESTIONS,
        device=torch.device("cpu"),
    )


def cosine(first, second):
    product = np.linalg.norm(first) * np.linalg.norm(second)
    return float(first @ second / product) if product else 0.0


def unit(row):
    return row / np.linalg.norm(row) if row.any() else row


def words(text):
    return set(re.findall(r"\w+", (text or "").lower()))


def shared(entity, candidate):
    """The four numbers of shared words, by sets."""
    name, said = words(NAMES[entity]), words(SAID[entity])
    other_name, other_said = words(NAMES[candidate]), words(SAID[candidate])
    return [
        float(bool(other_name) and other_name <= said),
        float(bool(name) and name <= other_said),
        len(name & other_name) / max(1, len(name), len(other_name)),
        np.log1p(len(said & other_said)),
    ]


def by_hand(question, facts, counts):
    """The numbers of each candidate, written out."""
    pairs = {(first, second) for first, _, second in facts}
    rows = []
    for candidate in CANDIDATES.tolist():
        row = []
        for texts in (vectors(0), vectors(1)):
            ends = [unit(texts[entity]) for entity in (question.question, question.head, question.tail)]
            beside = ends[2] - ends[1] + ends[0]
            row += [cosine(end, texts[candidate]) for end in (*ends, beside)]
        row += [float(candidate == entity) for entity in (question.question, question.head, question.tail)]
        row += shared(question.question, candidate)
        row += [np.log1p(counts[candidate]), float(counts[candidate] == 0)]
        answered = 0.0
        for other, partner in pairs:
            if partner == candidate and other != question.question:
                like = np.mean([cosine(texts[other], texts[question.question]) for texts in (vectors(0), vectors(1))])
                answered += np.exp(LIKENESS_GAIN * (like - 1))
        rows.append([*row, np.log(answered + np.exp(-0.7 * LIKENESS_GAIN))])
    return np.array(rows)


def normal(rows_BCF):
    """Rows with the means and deviations of the sample, whose own facts are not known."""
    sample = []
    for question in QUESTIONS:
        facts = [fact for fact in FACTS if fact not in question.facts]
        sample.append(by_hand(question, facts, COUNTS - Counter({question.answer: question.own_count})))
    sample = np.array(sample)
    deviation = sample.std(axis=(0, 1), ddof=1).clip(min=0.05)
    return ((rows_BCF - sample.mean(axis=(0, 1))) / deviation).clip(-6, 12)


def test_a_name_in_a_description_is_told_and_how_many_words_are_shared():
    everybody = np.arange(6)
    numbers = SharedWords(MARKG, everybody).of([1, 4])
    assert numbers.shape == (2, 6, 4)
    assert numbers[0, :, 0].tolist() == [1, 0, 0, 0, 0, 0]  # a lullaby is a song
    assert numbers[1, :, 0].tolist() == [1, 0, 0, 1, 0, 0]  # a song of a dog; a name without words is nowhere
    assert numbers[1, 3].tolist() == pytest.approx([1, 0, 1 / 2, np.log(2)])  # "dog"; "of"
    assert numbers[0, 0, 3] == pytest.approx(np.log(2))  # "sung"
    turned = SharedWords(MARKG, np.array([1])).of([0])
    assert turned[0, 0].tolist() == pytest.approx([0, 1, 0, np.log(2)])
    for row, entity in enumerate((1, 4)):
        for candidate in range(6):
            assert numbers[row, candidate].tolist() == pytest.approx(shared(entity, candidate), abs=1e-6)


def test_the_numbers_of_each_candidate_are_those_that_are_written_out():
    numbers = known().of(QUESTIONS, hide=False)
    assert numbers.shape == (3, 4, known().num_known)
    expected = normal(np.array([by_hand(question, FACTS, COUNTS) for question in QUESTIONS]))
    assert np.allclose(numbers.numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("place", range(3))
def test_what_a_question_says_itself_is_not_known_where_it_is_learnt(place):
    question = QUESTIONS[place]
    facts = [fact for fact in FACTS if fact not in question.facts]
    expected = normal(by_hand(question, facts, COUNTS - Counter({question.answer: question.own_count})))
    learnt = known().of([question], hide=True)[0]
    assert np.allclose(learnt.numpy(), expected, atol=1e-4)
    assert not torch.allclose(learnt, known().of([question], hide=False)[0], atol=1e-4)


def test_without_any_candidate_there_is_nothing_to_rank():
    with pytest.raises(ConfigError, match="at least one candidate, found none"):
        CandidateKnowledge(
            MARKG,
            (vectors(0),),
            CANDIDATES[:0],
            answer_counts=Counter(),
            facts=[],
            sample=QUESTIONS,
            device=torch.device("cpu"),
        )
