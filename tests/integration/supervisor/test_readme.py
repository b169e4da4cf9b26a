"""The example in the package's README runs as it stands, and prints what is said there."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[3] / "supervisor" / "README.md"


def test_the_example_prints_what_the_readme_says(tmp_path):
    blocks = dict(re.findall(r"```(\w+)\n(.*?)```", README.read_text(), re.DOTALL))
    example = tmp_path / "example.py"
    example.write_text(blocks["python"])
    done = subprocess.run([sys.executable, example], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout == blocks["text"]
