"""Holds the includes against the architecture: dependencies run one way, third-party libraries stay in one folder.

    base <- tensor <- {kernels, storage} <- model <- runtime <- server <- apps

text, media and sampling stand beside the model on base alone; importing uses storage, tensor, kernels and the model's
configuration; text/, vision/ and audio/ of the model do not know each other. Files over 500 lines are reported.
"""

import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]', re.MULTILINE)
LONG_FILE = 500  # lines

MODEL = {"base", "tensor", "kernels", "storage"}
RUNTIME = MODEL | {"model", "model/text", "model/vision", "model/audio", "text", "media", "sampling"}
# What each folder may include besides itself.
ALLOWED = {
    "base": set(),
    "tensor": {"base"},
    "kernels": {"base", "tensor"},
    "storage": {"base", "tensor"},
    "text": {"base"},
    "media": {"base"},
    "sampling": {"base"},
    "model": MODEL,
    "model/text": MODEL | {"model"},
    "model/vision": MODEL | {"model"},
    "model/audio": MODEL | {"model"},
    "importing": MODEL | {"model"},
    "runtime": RUNTIME,
    "server": RUNTIME | {"runtime", "importing"},
    "apps": RUNTIME | {"runtime", "importing", "server"},
}

# First part of the path of a third-party header -> the one folder that may include it.
THIRD_PARTY = {
    "spdlog": "base", "sentencepiece_processor.h": "text", "google": "text",
    "kissfft": "media", "kiss_fft.h": "media", "kiss_fftr.h": "media", "soxr.h": "media", "sndfile.h": "media",
    "jpeglib.h": "media", "jerror.h": "media", "turbojpeg.h": "media", "png.h": "media", "webp": "media",
    "gif_lib.h": "media",
    "httplib.h": "server", "prometheus": "server",
    "CLI": "apps", "histedit.h": "apps", "editline": "apps",
}
# JSON is read wherever a format is made of it, but never by a header of src/.
JSON_FOLDERS = {"model", "storage", "text", "importing", "runtime", "server", "apps"}
# Formatting is part of every error sentence.
EVERYWHERE = {"fmt"}
SYSTEM = re.compile(r"(sys|linux|asm|arpa|netinet)/|^(unistd|fcntl|immintrin|arm_neon|time|sched|fnmatch|dirent|poll|"
                    r"signal|termios|errno|malloc|pthread|dlfcn|cpuid|netdb)\.h$")


def folder_of(path, root=ROOT):
    """'model/text' for src/model/text/x.cc, 'kernels' for src/kernels/x86/x.cc, 'apps' for apps/nestling/x.cc."""
    parts = path.relative_to(root).parts
    if parts[0] == "apps":
        return "apps"
    two = "/".join(parts[1:3])
    return two if two in ALLOWED else parts[1]


def included_folder(name):
    """Folder of an include such as "model/text/step.h"; None for a file beside the includer."""
    parts = name.split("/")
    if len(parts) == 1:
        return None
    two = "/".join(parts[:2])
    return two if two in ALLOWED else parts[0]


def complaints(path, text, folder):
    """What is wrong with the includes of one file."""
    found = []
    for bracket, name in INCLUDE.findall(text):
        if bracket == '"':
            target = included_folder(name)
            if target is not None and target not in ALLOWED and target != "nestling":
                found.append(f'{path}: "{name}" is in no known folder')
            elif target in ALLOWED and target != folder and target not in ALLOWED[folder]:
                found.append(f'{path}: {folder} may not include "{name}"')
            continue
        first = name.split("/")[0]
        if SYSTEM.match(name) or first in EVERYWHERE or ("." not in name and "/" not in name):
            continue
        if first == "nlohmann":
            if folder not in JSON_FOLDERS:
                found.append(f"{path}: {folder} may not include <{name}>")
            elif folder != "apps" and path.suffix == ".h":
                found.append(f"{path}: a header may not include <{name}>")
        elif first not in THIRD_PARTY:
            found.append(f"{path}: <{name}> is a library that this test does not know")
        elif THIRD_PARTY[first] != folder:
            found.append(f"{path}: only {THIRD_PARTY[first]} may include <{name}>")
        elif path.suffix == ".h" and first != "spdlog":
            found.append(f"{path}: a header may not include <{name}>")
    return found


def is_test(path):
    """Tests, and headers that only tests use, may join folders."""
    return path.stem.endswith(("_test", "_fixture", "_testing")) or "test" in path.stem.split("_")


def sources():
    for top in ("src", "apps"):
        for path in sorted((ROOT / top).rglob("*")):
            if path.suffix in (".h", ".cc") and not is_test(path):
                yield path


class DependenciesTest(unittest.TestCase):
    def test_every_folder_is_known(self):
        folders = {folder_of(path) for path in sources()}
        self.assertEqual(folders - set(ALLOWED), set())
        self.assertIn("base", folders)

    def test_includes_follow_the_architecture(self):
        found = []
        for path in sources():
            found += complaints(path.relative_to(ROOT), path.read_text(encoding="utf-8"), folder_of(path))
        self.assertEqual(found, [], "\n" + "\n".join(found))

    def test_rules_run_one_way(self):
        for folder, allowed in ALLOWED.items():
            for other in allowed:
                self.assertNotIn(folder, ALLOWED[other], f"{folder} and {other} allow each other")

    def test_long_files_are_reported(self):
        for path in sources():
            lines = path.read_text(encoding="utf-8").count("\n")
            if lines > LONG_FILE:
                print(f"note: {path.relative_to(ROOT)} has {lines} lines; {LONG_FILE} is where a file should be divided")


class RulesBite(unittest.TestCase):
    """The checker finds what it is for."""

    def check(self, folder, line, name="x.cc"):
        return complaints(pathlib.Path(name), line + "\n", folder)

    def test_wrong_direction(self):
        self.assertTrue(self.check("base", '#include "tensor/weight.h"'))
        self.assertTrue(self.check("model/text", '#include "runtime/engine.h"'))
        self.assertTrue(self.check("importing", '#include "model/text/step.h"'))
        self.assertTrue(self.check("sampling", '#include "tensor/weight.h"'))
        self.assertFalse(self.check("model/text", '#include "model/config.h"'))

    def test_towers_do_not_know_each_other(self):
        self.assertTrue(self.check("model/vision", '#include "model/text/step.h"'))
        self.assertTrue(self.check("model/text", '#include "model/audio/conformer.h"'))

    def test_third_party(self):
        self.assertTrue(self.check("runtime", "#include <sndfile.h>"))
        self.assertTrue(self.check("media", "#include <sndfile.h>", "x.h"))
        self.assertFalse(self.check("media", "#include <sndfile.h>"))
        self.assertTrue(self.check("model", "#include <nlohmann/json.hpp>", "x.h"))
        self.assertTrue(self.check("base", "#include <nlohmann/json.hpp>"))
        self.assertTrue(self.check("base", "#include <boost/any.hpp>"))
        self.assertFalse(self.check("base", "#include <vector>"))


if __name__ == "__main__":
    unittest.main()
