"""What is said of exceptions that no command of the tests meets."""

from __future__ import annotations

from torch._dynamo.exc import TorchDynamoException

from dit_exp.messages import explain


def test_a_library_is_called_cut_off_where_a_compiler_could_not_load_it_and_nowhere_else():
    text = "backend='inductor' raised:\nImportError: /tmp/of me/a.main.so: file too short\n"
    said, code = explain(TorchDynamoException(text), [])
    assert said.startswith("Compiled code in /tmp/of me/a.main.so cannot be loaded: file too short.")
    assert code == 1
    said, code = explain(ImportError("/usr/lib/x.so: undefined symbol"), [])
    assert said.startswith("Internal error, ImportError")
    said, _ = explain(RuntimeError("Caught by a worker:\nImportError: /usr/lib/x.so: undefined symbol"), [])
    assert "cannot be loaded" not in said
