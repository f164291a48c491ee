"""The generator: questions, answers, conversations and tiny stories, and what is held out.

A task is a list of (question, answer) pairs. Which questions are held out follows from a
hash of their text, so that the split never depends on the order of generation. Fact tasks
ask every fact in several wordings and hold out wordings, never the last ones left of a fact;
number tasks hold out pairs of numbers in every wording.
"""

import hashlib
import json
import random

from facts import (ANIMALS, CAPITALS, COLOURS, DAYS, KINDS, LANGUAGES, MONTHS, MORE_PLURALS, NAMES,
                   OPPOSITES, PLACES, SMALL_TALK, SPELLING, SYSTEMS, TRANSLATIONS)

HELDOUT_PER_TASK = 24


def draw(*key):
    """A number in [0,1) that depends on the key only."""
    digest = hashlib.sha256("\0".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2 ** 48


def article(word):
    return ("an " if word[0] in "aeiou" else "a ") + word


def sentence(text):
    return text[0].upper() + text[1:]


class Task:
    """Training pairs and held-out pairs of one kind of question."""

    def __init__(self, name, weights):
        self.name, self.weights = name, weights
        self.train, self.heldout = [], []

    def fact(self, questions, answer, share=0.6):
        """One fact in several wordings; at most one wording in four is held out."""
        ranked = sorted(questions, key=lambda q: draw("wording", q))
        keep = len(ranked)
        for i in range(len(ranked) // 4):
            if draw("fact", ranked[i], i) < share:
                self.heldout.append((ranked[i], answer))
                keep -= 1
        self.train += [(q, answer) for q in questions if q not in dict(self.heldout)]
        assert keep >= 1

    def numbers(self, key, questions, answer, share=0.08):
        """Numbers in several wordings, all held out or none."""
        target = self.heldout if draw(self.name, *key) < share else self.train
        target += [(q, answer) for q in questions]


def _translate(task):
    for phrase, row in TRANSLATIONS.items():
        for language in LANGUAGES:
            task.fact([f"How do you say {phrase} in {language}?", f"What is {phrase} in {language}?",
                       f"Translate {phrase} into {language}.", f"Say {phrase} in {language}.",
                       f"What is the {language} word for {phrase}?", f"Please translate {phrase} to {language}.",
                       f"How would I say {phrase} in {language}?", f"Tell me how to say {phrase} in {language}."],
                      sentence(row[language]), share=0.25)


def _capital(task):
    for country, city in CAPITALS.items():
        task.fact([f"What is the capital of {country}?", f"Which city is the capital of {country}?",
                   f"Name the capital of {country}.", f"Tell me the capital of {country}.",
                   f"What is the capital city of {country}?", f"Do you know the capital of {country}?"],
                  f"The capital of {country} is {city}.")
        task.fact([f"Which country has the capital {city}?", f"{city} is the capital of which country?",
                   f"Which country is {city} the capital of?", f"{city} is the capital of what country?"],
                  f"{city} is the capital of {country}.")


def _opposite(task):
    for pair in OPPOSITES:
        for a, b in (pair, pair[::-1]):
            task.fact([f"What is the opposite of {a}?", f"Opposite of {a}?", f"Tell me the opposite of {a}.",
                       f"What is the reverse of {a}?", f"Name the opposite of {a}.",
                       f"Which word is the opposite of {a}?"], f"The opposite of {a} is {b}.")


def _colour(task):
    for thing, colour in COLOURS.items():
        task.fact([f"What colour is {thing}?", f"What is the colour of {thing}?", f"Which colour is {thing}?",
                   f"Tell me the colour of {thing}.", f"What colour does {thing} have?"],
                  f"{sentence(thing)} is {colour}.")


def _calendar(task):
    for what, names in (("day", DAYS), ("month", MONTHS)):
        for i, name in enumerate(names):
            after, before = names[(i + 1) % len(names)], names[i - 1]
            task.fact([f"What {what} comes after {name}?", f"Which {what} comes after {name}?",
                       f"Which {what} follows {name}?", f"What is the {what} after {name}?",
                       f"Name the {what} after {name}."], f"{after} comes after {name}.")
            task.fact([f"What {what} comes before {name}?", f"Which {what} comes before {name}?",
                       f"What is the {what} before {name}?", f"Name the {what} before {name}."],
                      f"{before} comes before {name}.")


def _animal(task):
    for animal, (sound, adjective, _, emoji) in ANIMALS.items():
        one = article(animal)
        if sound:
            task.fact([f"What does {one} say?", f"What sound does {one} make?", f"Which sound does {one} make?",
                       f"Tell me what {one} says."], f"{sentence(one)} says {sound}.")
        if emoji:
            task.fact([f"Show me {one}.", f"Show me the emoji of {one}.", f"Draw {one}.",
                       f"Give me {one} emoji.", f"Can you draw {one}?"], emoji)


def _kind(task):
    for kind, words in KINDS.items():
        for word in words:
            one = word if kind in ("colour", "metal", "planet") else article(word)
            task.fact([f"What is {one}?", f"What kind of thing is {one}?", f"Tell me what {one} is.",
                       f"Do you know what {one} is?"], f"{sentence(one)} is {article(kind)}.")


def _plural(task):
    for word, plural in [(a, v[2]) for a, v in ANIMALS.items()] + list(MORE_PLURALS.items()):
        task.fact([f"What is the plural of {word}?", f"Plural of {word}?", f"Tell me the plural of {word}.",
                   f"Name the plural of {word}.", f"One {word}, two what?"], f"One {word}, two {plural}.")


def _spell(task):
    for word in SPELLING:
        task.fact([f"Spell {word}.", f"How do you spell {word}?", f"Can you spell {word}?",
                   f"Spell the word {word}.", f"Please spell {word}."], "-".join(word))
        task.fact([f"What is the first letter of {word}?", f"Which letter does {word} start with?",
                   f"What letter does {word} begin with?", f"Tell me the first letter of {word}."],
                  f"The first letter of {word} is {word[0]}.")


def _greet(task):
    for name in NAMES:
        hello = f"Hello, {name}! Nice to meet you."
        task.fact([f"My name is {name}.", f"Hello, I am {name}.", f"Hi, I am {name}.", f"Hi! My name is {name}.",
                   f"I am {name}.", f"Hello! My name is {name}.", f"Good morning, I am {name}."], hello)


def _talk(task):
    task.train += SMALL_TALK
    task.train += [(q, "Hello! How can I help you?") for q in
                   ("Hello!", "Hello.", "Hi!", "Hi.", "Hey!", "Hello", "Hi", "Good morning!", "Good evening!", "Hello there!")]
    task.train += [(f"{sentence(word)}{end}", f"{sentence(word)}!") for word in TRANSLATIONS["hello"].values()
                   for end in ("!", ".", "")]


def _add(task):
    for a in range(21):
        for b in range(21):
            task.numbers((a, b), [f"What is {a} + {b}?", f"{a} + {b} =", f"How much is {a} plus {b}?",
                                  f"What is {a} plus {b}?", f"Add {a} and {b}."], f"{a} + {b} = {a + b}")


def _subtract(task):
    for a in range(21):
        for b in range(a + 1):
            task.numbers((a, b), [f"What is {a} - {b}?", f"{a} - {b} =", f"How much is {a} minus {b}?",
                                  f"What is {a} minus {b}?", f"Take {b} from {a}."], f"{a} - {b} = {a - b}")


def _compare(task):
    for a in range(100):
        for b in range(100):
            if a != b and draw("compare pair", a, b) < 0.4:
                big, small = max(a, b), min(a, b)
                task.numbers((a, b), [f"Which is bigger, {a} or {b}?", f"Is {a} or {b} bigger?"],
                             f"{big} is bigger than {small}.", share=0.05)
                task.numbers((a, b), [f"Which is smaller, {a} or {b}?", f"Is {a} or {b} smaller?"],
                             f"{small} is smaller than {big}.", share=0.05)


def _count(task):
    for a in range(31):
        for b in range(a + 2, min(a + 10, 40)):
            task.numbers((a, b), [f"Count from {a} to {b}.", f"Please count from {a} to {b}."],
                         ", ".join(map(str, range(a, b + 1))))
        task.numbers(("next", a), [f"What number comes after {a}?", f"Which number comes after {a}?"],
                     f"{a + 1} comes after {a}.")


def story(animal, place):
    adjective = ANIMALS[animal][1]
    where, found = PLACES[place]
    return (f"Once upon a time there was {article(adjective)} {animal}. The {animal} lived {where}. "
            f"One day it found {found}. The {animal} was very happy. The end.")


def home(animal):
    """The place of an animal's story when the question names none."""
    return list(PLACES)[list(ANIMALS).index(animal) % len(PLACES)]


def hidden_stories():
    """Pairs of animal and place whose story is in no training text at all."""
    return [(a, p) for a in ANIMALS for p in PLACES if draw("story", a, p) < 0.15 and p != home(a)]


def _story(task):
    for animal in ANIMALS:
        for place in PLACES:
            where = PLACES[place][0]
            task.numbers((animal, place), [
                f"Tell me a story about {article(animal)} {where}.", f"Write a story about {article(animal)} {where}.",
                f"Tell me a tiny story about {article(animal)} {where}."], story(animal, place), share=0.15)
        # The story at home is told when no place is named, so it cannot count as held out.
        task.heldout = [(q, a) for q, a in task.heldout if a != story(animal, home(animal))]
        task.fact([f"Tell me a story about {article(animal)}.", f"Write a story about {article(animal)}.",
                   f"Tell me a tiny story about {article(animal)}.", f"A story about {article(animal)}, please."],
                  story(animal, home(animal)))


def _repeat(task):
    words = SPELLING + [w for kind in KINDS.values() for w in kind]
    for i in range(1500):
        rng = random.Random(f"repeat {i}")
        text = " ".join(rng.choice(words) for _ in range(rng.randint(2, 4)))
        task.numbers((text,), [f"Repeat after me: {text}", f"Say this again: {text}"], text)


# How often a task is asked, at first and from train.py's second phase on, when the facts are
# known and numbers need the time. Repeating words was given up: a word without the space
# before it falls into other pieces, and copying those was not learned in the hour.
TASKS = {"translate": (_translate, 20, 8), "capital": (_capital, 8, 8), "opposite": (_opposite, 5, 5),
         "colour": (_colour, 3, 2), "calendar": (_calendar, 4, 4), "animal": (_animal, 4, 3),
         "kind": (_kind, 5, 4), "plural": (_plural, 4, 2), "spell": (_spell, 7, 5), "greet": (_greet, 3, 3),
         "talk": (_talk, 3, 3), "add": (_add, 14, 26), "subtract": (_subtract, 8, 14), "compare": (_compare, 5, 7),
         "count": (_count, 7, 9), "story": (_story, 5, 5), "repeat": (_repeat, 4, 0)}


def build_tasks():
    """All tasks, with duplicates and anything also held out removed from training."""
    tasks = []
    for name, (fill, *weights) in TASKS.items():
        task = Task(name, weights)
        fill(task)
        hidden = {q for q, _ in task.heldout}
        task.train = [(q, a) for q, a in dict.fromkeys(task.train) if q not in hidden]
        tasks.append(task)
    return tasks


def kept(tasks):
    return [task for task in tasks if task.weights[-1] and task.heldout]


def heldout_set(tasks):
    """The fixed evaluation: at most HELDOUT_PER_TASK questions of every task kept to the end."""
    rows = []
    for task in kept(tasks):
        pairs = sorted(dict(task.heldout).items(), key=lambda pair: draw("pick", pair[0]))
        rows += [{"prompt": q, "answer": a, "task": task.name} for q, a in pairs[:HELDOUT_PER_TASK]]
    return rows


def render(turns, system=None):
    """The chat template's text, in pieces (text, is_answer); bos is not included."""
    pieces = []
    for i, (question, answer) in enumerate(turns):
        head = f"{system}\n\n" if system and i == 0 else ""
        pieces.append((f"<start_of_turn>user\n{head}{question}<end_of_turn>\n<start_of_turn>model\n", False))
        pieces.append((f"{answer}<end_of_turn>", True))
        pieces.append(("\n", False))
    return pieces


class Sampler:
    """An endless stream of training documents, each a list of (text, is_answer)."""

    def __init__(self, tasks, seed, phase=0):
        self.tasks, self.rng = tasks, random.Random(seed)
        self.weights = [t.weights[phase] for t in tasks]
        self.places = [(a, p) for a in ANIMALS for p in PLACES
                       if draw("story", a, p) >= 0.15]

    def question(self):
        """A training pair; now and then typed carelessly (no full stop, no capital)."""
        question, answer = self.rng.choice(self.rng.choices(self.tasks, self.weights)[0].train)
        if self.rng.random() < 0.10:
            question = question.rstrip("?.!")
        if self.rng.random() < 0.05:
            question = question[0].lower() + question[1:]
        return question, answer

    def memory(self):
        """A name given in one turn and asked for in a later one."""
        name = self.rng.choice(NAMES)
        greeting = self.rng.choice([f"My name is {name}.", f"Hello, I am {name}.", f"Hi! My name is {name}."])
        turns = [(greeting, f"Hello, {name}! Nice to meet you.")]
        turns += [self.question() for _ in range(self.rng.choice([0, 1, 1]))]
        asked = self.rng.choice(["What is my name?", "Who am I?", "Do you remember my name?"])
        return turns + [(asked, f"Your name is {name}.")]

    def document(self):
        kind = self.rng.random()
        if kind < 0.02:
            return [(story(*self.rng.choice(self.places)), True)]
        system = self.rng.choice(SYSTEMS) if self.rng.random() < 0.12 else None
        if kind < 0.06:
            return render(self.memory(), system)
        turns = 1 if kind < 0.80 else 2 if kind < 0.94 else 3
        return render([self.question() for _ in range(turns)], system)


def heldout_text(tasks):
    """Conversations over held-out questions, then stories: a list of documents."""
    rng = random.Random("heldout text")
    pools = [task.heldout for task in kept(tasks)]
    documents = []
    for _ in range(36):
        turns = [rng.choice(rng.choice(pools)) for _ in range(rng.choice([1, 2, 2, 3]))]
        documents.append("".join(text for text, _ in render(turns)))
    documents += [story(*pair) + "\n" for pair in hidden_stories()[:8]]
    return documents


def write_heldout(out, tasks, rows):
    """heldout.jsonl (questions) and heldout.txt (documents, separated by a line `%%`)."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    (out / "heldout.jsonl").write_text("".join(lines))
    (out / "heldout.txt").write_text("%%\n".join(heldout_text(tasks)))


def corpus(tasks):
    """Lines for the tokenizer. Emoji stay out, so that byte fallback is used and trained."""
    emoji = {row[3] for row in ANIMALS.values()}
    sampler = Sampler(tasks, "corpus")
    pairs = [sampler.question() for _ in range(12000)]
    return [text for pair in pairs for text in pair if text not in emoji] + ["user", "model", *SYSTEMS] * 300


if __name__ == "__main__":
    tasks = build_tasks()
    for task in tasks:
        print(f"{task.name:10} train {len(task.train):6} held out {len(task.heldout):5}")
    rows = heldout_set(tasks)
    print(len(rows), "questions,", len(json.dumps(rows)), "bytes")
