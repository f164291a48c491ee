"""What the documentation names exists: files, functions, tests and links.

Checked are README.md, CONTRIBUTING.md, CHANGELOG.md and everything in docs/. A line that says "planned" may name what is not
there yet. Forms that are looked for:
    src/storage/ple_store.h, tests/cli, src/model/size   a path (without its ending: any file of that name)
    `rms_norm()`                                         a function that the sources contain
    `Size.SevenKvFamilies`                               a test that the sources contain
    [text](journey.md)                                   a link to a file of the repository
"""

import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PATH = re.compile(r"(?<![\w/.-])(?:src|apps|tests|tools|docs|benchmarks|models|cmake)/[\w./*-]*[\w*]")
FUNCTION = re.compile(r"`(?:[A-Z]\w*::)*([a-z_]\w*)\(\)`")
TEST = re.compile(r"`([A-Z]\w+)\.([A-Z]\w+)`")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
DEFINED_TEST = re.compile(r"^TEST(?:_F|_P)?\((\w+), (\w+)\)", re.MULTILINE)


def pages():
    yield from (ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))
    yield from sorted((ROOT / "docs").rglob("*.md"))


def read_sources():
    files = [path for top in ("src", "apps", "tests", "tools", "benchmarks")
             for path in (ROOT / top).rglob("*") if path.suffix in (".h", ".cc", ".py", ".sh")]
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


def path_exists(name):
    if "*" in name:
        return any(ROOT.glob(name))
    return (ROOT / name).exists() or any(ROOT.glob(name + ".*"))


def missing(text, directory, sources, tests):
    """What a page names that does not exist."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if "planned" in line.lower():
            continue
        found += [f"{number}: {name}" for name in PATH.findall(line) if not path_exists(name)]
        found += [f"{number}: {name}()" for name in FUNCTION.findall(line)
                  if not re.search(rf"\b{name}\(", sources)]
        found += [f"{number}: test {suite}.{name}" for suite, name in TEST.findall(line) if (suite, name) not in tests]
        found += [f"{number}: link {target}" for target in LINK.findall(line)
                  if "://" not in target and not (directory / target).exists()]
    return found


class DocsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sources = read_sources()
        cls.tests = set(DEFINED_TEST.findall(cls.sources))

    def test_everything_named_exists(self):
        for page in pages():
            with self.subTest(page=str(page.relative_to(ROOT))):
                found = missing(page.read_text(encoding="utf-8"), page.parent, self.sources, self.tests)
                self.assertEqual(found, [], "\n" + "\n".join(found))

    def test_the_package_format_has_its_version(self):
        code = re.search(r"kPackageFormatVersion = (\d+)", self.sources).group(1)
        page = (ROOT / "docs" / "package-format.md").read_text(encoding="utf-8")
        self.assertIn(f"Version {code}.", page)

    def test_the_check_bites(self):
        def found(line):
            return missing(line, ROOT / "docs", self.sources, self.tests)
        self.assertTrue(found("see src/storage/no_such_file.h"))
        self.assertTrue(found("`no_such_function_anywhere" + "()` does it"))
        self.assertTrue(found("`Size.NoSuchTest` holds it"))
        self.assertTrue(found("[a page](no_such_page.md)"))
        self.assertFalse(found("src/model/size.h, src/model/size and src/*/size.h"))
        self.assertFalse(found("`Session::generate()` and `Size.SevenKvFamilies`, [home](../README.md)"))
        self.assertFalse(found("src/server/ is planned"))


if __name__ == "__main__":
    unittest.main()
